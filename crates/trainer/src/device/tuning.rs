//! Where burn's runtime keeps which kernels were the quickest, so that only the first run on a card looks for them: a database in
//! the user's cache directory. Each adapter with each driver has one of its own, for the runtime's keys name neither, only the
//! device's number, and it panics where a kernel that was the quickest on one card cannot run on another. What goes wrong with a
//! database costs the looking, never the run.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use burn::tensor::wgpu::wgpu::AdapterInfo;
use cubecl::config::cache::CacheConfig;
use cubecl::config::environment::EnvironmentConfig;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use cubecl_environment::environment;
use cubecl_environment::persistence::{Access, Database, Insertion, Origin};
use cubecl_environment::records::{RecordLevel, RecordsConfig};
use etcetera::BaseStrategy;
use fs_err as fs;

use super::adapter::identity;
use super::failure;

/// Where the entry is that shows whether a database can be written.
const PROBE: (&str, &[u8]) = ("ghostnet/probe", b"probe");

/// What the engine puts behind a database's name for the files beside it.
const SUFFIXES: [&str; 3] = ["", "-wal", "-tshm"];

/// What moves the cache directory.
const VARIABLE: &str = if cfg!(windows) { "LOCALAPPDATA" } else { "XDG_CACHE_HOME" };

/// No directory on any platform: the runtime then keeps to memory, as it does when it cannot open a database.
const NOWHERE: &str = "\0";

/// When the database that this process uses was made, as the file system tells it; unknown if it cannot be kept.
static MADE: OnceLock<String> = OnceLock::new();

/// See [`MADE`].
pub(super) fn made() -> Option<&'static str> {
    MADE.get().map(String::as_str)
}

/// What is wrong with a database.
#[derive(Debug)]
enum Fault {
    /// It is not there and cannot be, or may only be read.
    Unwritable(String),
    /// It is something else, or broken.
    Damaged(String),
}

/// Has the runtime keep what it finds out about an adapter that is about to be opened; says why if that cannot be.
pub(super) fn keep(adapter: &AdapterInfo) -> Option<String> {
    let mut config = CubeClRuntimeConfig::from_current_dir();
    if config.environment.records == RecordsConfig::default() {
        // They tell how each kernel was chosen, which nobody reads here.
        config.environment.records.level = RecordLevel::Off;
    }
    let mut config = config.override_from_env();
    if config.environment.name == environment::DEFAULT {
        config.environment.name = name(adapter);
    }
    let (directory, fault) = match config.autotune.disable_cache {
        true => (None, None),
        false => database(&config.environment),
    };
    let path = directory.as_ref().map(|directory| directory.join(environment::file_name(&config.environment.name)));
    if let (Some(path), None) = (path, &fault) {
        // A file system that does not tell when a file was made has at least its place.
        let made = fs::metadata(&path).and_then(|file| file.created()).map(|time| format!("{time:?}"));
        MADE.get_or_init(|| made.unwrap_or_else(|_| path.display().to_string()));
    }
    config.environment.path = CacheConfig::Directory(directory.unwrap_or_else(|| NOWHERE.into()));
    let warning = fault.map(|fault| {
        format!("warning: what is tuned now is not kept for the next run: {fault}; `{VARIABLE}` can name another place for it")
    });
    // A process has one configuration, that of the first adapter it opens.
    CubeClRuntimeConfig::try_set(config).then_some(warning).flatten()
}

/// The directory of a database that the runtime can be trusted with, and why it cannot be written.
fn database(environment: &EnvironmentConfig) -> (Option<PathBuf>, Option<String>) {
    let directory = match &environment.path {
        // The runtime's default, which is a folder in any cargo project around.
        CacheConfig::Target => directory(),
        path => Ok(path.root()),
    };
    let directory = match directory {
        Ok(directory) => directory,
        Err(fault) => return (None, Some(fault)),
    };
    let path = directory.join(environment::file_name(&environment.name));
    let named = |fault| Some(format!("`{}`: {fault}", path.display()));
    match check(&path) {
        Ok(()) => (Some(directory), None),
        // What is in it still serves.
        Err(Fault::Unwritable(fault)) => (Some(directory), named(fault)),
        Err(Fault::Damaged(_)) => match remove(&path).and_then(|()| check(&path)) {
            Ok(()) => (Some(directory), None),
            Err(Fault::Unwritable(fault) | Fault::Damaged(fault)) => (None, named(fault)),
        },
    }
}

/// Ours in this user's cache directory.
fn directory() -> Result<PathBuf, String> {
    let user = etcetera::choose_base_strategy().map_err(|_| "there is no home directory")?;
    Ok(user.cache_dir().join("ghostnet").join("tuning"))
}

/// A name for a card and its driver. The version of the runtime is in its own keys.
fn name(adapter: &AdapterInfo) -> String {
    let identity = identity(adapter);
    let readable: String =
        adapter.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(64).collect();
    format!("{readable}-{}", &blake3::hash(identity.as_bytes()).to_hex()[..16])
}

/// Reads all of a database and writes to it, as the runtime will.
fn check(path: &Path) -> Result<(), Fault> {
    let open = |access| -> Result<Database, String> {
        let database = Database::open_at(path, access)?;
        for namespace in database.namespaces() {
            database.scan(&namespace, &mut |_, _| ());
        }
        Ok(database)
    };
    // The engine may panic at what it did not write itself.
    let checked = failure::caught("the database", || {
        Ok(match open(Access::ReadWrite) {
            Ok(database) => match database.replace(PROBE.0, PROBE.1, b"", Origin::Local) {
                Insertion::Failed(fault) => Err(Fault::Unwritable(fault)),
                _ => {
                    database.purge_key(PROBE.0, PROBE.1);
                    Ok(())
                }
            },
            Err(fault) if !path.exists() || open(Access::ReadOnly).is_ok() => Err(Fault::Unwritable(fault)),
            Err(fault) => Err(Fault::Damaged(fault)),
        })
    });
    checked.unwrap_or_else(|error| Err(Fault::Damaged(error.to_string())))
}

/// Removes a database with all that belongs to it.
fn remove(path: &Path) -> Result<(), Fault> {
    for suffix in SUFFIXES {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        match fs::remove_file(PathBuf::from(file)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(Fault::Damaged(error.to_string())),
            _ => (),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use burn::tensor::wgpu::wgpu::{Backend, DeviceType};

    use super::*;

    /// A database in a folder, as the runtime would be given it.
    fn place(directory: &Path, name: &str) -> (EnvironmentConfig, PathBuf) {
        let path = CacheConfig::Directory(directory.to_owned());
        let environment = EnvironmentConfig { name: name.to_string(), path, ..EnvironmentConfig::default() };
        (environment, directory.join(format!("{name}.db")))
    }

    /// What a run leaves in it.
    fn tune(path: &Path) -> Insertion {
        let database = Database::open_at(path, Access::ReadWrite).expect("a database");
        database.insert("autotune", b"key", &[7; 9000], Origin::Local)
    }

    #[test]
    fn each_card_and_each_driver_has_a_database_of_its_own() {
        let mut adapter = AdapterInfo::new(DeviceType::DiscreteGpu, Backend::Vulkan);
        adapter.name = "A Card 4000/PCIe".to_string();
        let first = name(&adapter);
        assert!(first.starts_with("A-Card-4000-PCIe-"), "{first}");
        assert_eq!(environment::file_name(&first), format!("{first}.db"), "the runtime takes it as it is");
        assert_eq!(name(&adapter.clone()), first);
        let newer = AdapterInfo { driver_info: "1.1".to_string(), ..adapter.clone() };
        assert_ne!(name(&newer), first);
        let other = AdapterInfo { device: 1, ..adapter };
        assert_ne!(name(&other), first);
    }

    #[test]
    fn what_was_tuned_is_there_in_the_next_run() {
        let _turn = failure::turn();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let directory = folder.path().join("new/folder");
        let (environment, path) = place(&directory, "card");
        assert_eq!(database(&environment), (Some(directory.clone()), None));
        assert_eq!(tune(&path), Insertion::Stored);
        assert_eq!(database(&environment), (Some(directory), None));
        let found = Database::open_at(&path, Access::ReadWrite).expect("a database");
        assert_eq!(found.namespaces(), ["autotune"], "the look at it leaves nothing");
        assert!(found.get("autotune", b"key").is_some());
    }

    #[test]
    fn a_damaged_database_is_replaced() {
        let _turn = failure::turn();
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, damaged) in [("short", &b"SQLite format 3\0"[..]), ("foreign", &[b'x'; 20_000])] {
            let (environment, path) = place(folder.path(), name);
            fs::write(&path, damaged).expect("a file");
            assert_eq!(database(&environment), (Some(folder.path().to_owned()), None));
            assert_eq!(tune(&path), Insertion::Stored);
        }
    }

    /// A number of frames so large that the size of the file overflows.
    #[test]
    fn a_database_that_makes_its_engine_panic_is_replaced() {
        let _turn = failure::turn();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (environment, path) = place(folder.path(), "card");
        assert_eq!(tune(&path), Insertion::Stored);
        let beside = folder.path().join("card.db-tshm");
        let mut bytes = fs::read(&beside).expect("a file");
        bytes[60..64].fill(0xff);
        fs::write(&beside, bytes).expect("a file");
        assert_eq!(database(&environment), (Some(folder.path().to_owned()), None));
        assert!(matches!(tune(&path), Insertion::Stored | Insertion::Conflict(_)));
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let _turn = failure::turn();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("file");
        fs::write(&file, "").expect("a file");
        let (environment, path) = place(&file.join("tuning"), "card");
        let (_, fault) = database(&environment);
        assert!(fault.is_some_and(|fault| fault.starts_with(&format!("`{}`: ", path.display()))));
        // Nor is there anything to open where the runtime is sent without a directory.
        assert!(Database::open_at(&Path::new(NOWHERE).join("card.db"), Access::ReadWrite).is_err());
    }
}
