// A Vulkan driver that passes everything on to Mesa's llvmpipe, but for the dispatches of kernels, which it counts and leaves out. So a program
// runs as on a card that computes in no time: what is left is the work of the host.
//
//   gcc -shared -fPIC -O2 -o null_vulkan.so null_vulkan.c -ldl
//   echo '{"file_format_version": "1.0.0", "ICD": {"api_version": "1.1.230", "library_path": "'$PWD'/null_vulkan.so"}}' > null_vulkan.json
//   VK_DRIVER_FILES=$PWD/null_vulkan.json VK_ICD_FILENAMES=$PWD/null_vulkan.json PROGRAM
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef void (*function)(void);
typedef function (*get_address)(void *, const char *);

static long dispatches;
static void *driver;
static get_address instance_address, physical_device_address, device_address;
static int (*negotiate)(uint32_t *);

__attribute__((destructor)) static void tell(void) {
    fprintf(stderr, "dispatches: %ld\n", dispatches);
}

static void load(void) {
    if (driver) return;
    driver = dlopen("libvulkan_lvp.so", RTLD_NOW | RTLD_LOCAL);
    if (!driver) driver = dlopen("/usr/lib/x86_64-linux-gnu/libvulkan_lvp.so", RTLD_NOW | RTLD_LOCAL);
    if (!driver) return;
    instance_address = (get_address)dlsym(driver, "vk_icdGetInstanceProcAddr");
    physical_device_address = (get_address)dlsym(driver, "vk_icdGetPhysicalDeviceProcAddr");
    negotiate = (int (*)(uint32_t *))dlsym(driver, "vk_icdNegotiateLoaderICDInterfaceVersion");
}

static void dispatch(void *buffer, uint32_t x, uint32_t y, uint32_t z) {
    (void)buffer, (void)x, (void)y, (void)z;
    dispatches++;
}

static void dispatch_indirect(void *buffer, uint64_t arguments, uint64_t offset) {
    (void)buffer, (void)arguments, (void)offset;
    dispatches++;
}

static function ours(const char *name) {
    if (!strcmp(name, "vkCmdDispatch")) return (function)dispatch;
    if (!strcmp(name, "vkCmdDispatchIndirect")) return (function)dispatch_indirect;
    return NULL;
}

static function of_device(void *device, const char *name) {
    function found = ours(name);
    return found ? found : device_address(device, name);
}

__attribute__((visibility("default"))) function vk_icdGetInstanceProcAddr(void *instance, const char *name) {
    load();
    function found = ours(name);
    if (found || !instance_address) return found;
    found = instance_address(instance, name);
    if (strcmp(name, "vkGetDeviceProcAddr") || !found) return found;
    device_address = (get_address)found;
    return (function)of_device;
}

__attribute__((visibility("default"))) function vk_icdGetPhysicalDeviceProcAddr(void *instance, const char *name) {
    load();
    return physical_device_address ? physical_device_address(instance, name) : NULL;
}

__attribute__((visibility("default"))) int vk_icdNegotiateLoaderICDInterfaceVersion(uint32_t *version) {
    load();
    return negotiate ? negotiate(version) : 0;
}
