//! What a pickle may name. A pickle builds its objects by naming functions and classes of Python. Nothing is ever called
//! here: a few names are known and what they would build is built by us, all others stand for something that is not read,
//! and names that have no place in a file of weights are refused.

use crate::element::Element;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Meaning {
    /// `_rebuild_tensor(storage, offset, shape, stride)`, `_rebuild_tensor_v2(…, requires_grad, hooks)`.
    RebuildTensor,
    /// The same with the element type as seventh argument.
    RebuildTensorV3,
    /// `_rebuild_parameter(tensor, …)`: the tensor.
    RebuildParameter,
    /// `_rebuild_from_type_v2(function, class, arguments, state)`.
    RebuildFromType,
    /// A dictionary.
    Dictionary,
    /// Tensor or parameter as a class.
    TensorClass,
    /// Class of a storage.
    StorageClass(&'static Element),
    /// Element type.
    ElementType(&'static Element),
    /// `_reconstruct(ndarray, (0,), b'b')`, an array that `BUILD` fills.
    NumpyArray,
    /// The class of an array.
    NumpyArrayClass,
    /// `dtype(name, align, copy)`.
    NumpyDtype,
    /// `tuple((name, array))`, which is what Paddle makes of a tensor in a dictionary inside of another.
    Tuple,
    /// `encode(text, encoding)`, how protocols before 3 write bytes.
    Encode,
    /// Known, without effect on the tensors, not worth a word to the user.
    Harmless,
    /// Of another program.
    Foreign,
}

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It can run programs, load code or reach the network.
    Dangerous,
    /// `torch.storage._load_from_bytes`: a whole torch file inside of an ordinary pickle.
    NestedFile,
}

/// Modules, and single names of modules, that are refused even where nothing uses them.
const DANGEROUS: &[&str] = &[
    "_ctypes",
    "_io.FileIO",
    "_io.open",
    "_io.open_code",
    "_pickle",
    "_posixsubprocess",
    "_socket",
    "_thread",
    "_winapi",
    "antigravity",
    "asyncio",
    "bdb",
    "cProfile",
    "cPickle",
    "cffi",
    "code.InteractiveConsole",
    "code.InteractiveInterpreter",
    "code.interact",
    "codeop",
    "commands.getoutput",
    "commands.getstatusoutput",
    "ctypes",
    "dbm",
    "distutils",
    "doctest",
    "ensurepip",
    "ftplib",
    "httplib",
    "idlelib",
    "imaplib",
    "imp",
    "importlib",
    "io.FileIO",
    "io.open",
    "io.open_code",
    "lib2to3",
    "linecache",
    "logging.config",
    "marshal",
    "msvcrt",
    "multiprocessing",
    "nt",
    "numpy.distutils",
    "numpy.f2py",
    "numpy.fromfile",
    "numpy.load",
    "numpy.testing",
    "operator.attrgetter",
    "operator.methodcaller",
    "_operator.attrgetter",
    "_operator.methodcaller",
    "os",
    "pdb",
    "pickle",
    "pip",
    "pkg_resources",
    "pkgutil",
    "platform",
    "poplib",
    "popen2",
    "posix",
    "profile.run",
    "profile.runctx",
    "pty",
    "pydoc",
    "requests",
    "runpy",
    "setuptools",
    "shelve",
    "shutil",
    "signal",
    "smtplib",
    "socket",
    "socketserver",
    "SocketServer",
    "sqlite3",
    "ssl",
    "subprocess",
    "sys",
    "telnetlib",
    "timeit",
    "torch._dynamo.guards",
    "torch._inductor.codecache",
    "torch.hub",
    "torch.load",
    "torch.package",
    "torch.serialization",
    "torch.utils.collect_env",
    "torch.utils.cpp_extension",
    "torch.utils.data.datapipes.utils.decoder",
    "torch.utils.bottleneck",
    "types.CodeType",
    "types.FunctionType",
    "types.LambdaType",
    "urllib",
    "urllib2",
    "venv",
    "webbrowser",
    "winreg",
    "xmlrpc",
    "zipimport",
];

/// The names of `builtins` that are not refused: types and what only computes. `getattr` is how Python 3.11 writes a member of
/// an enumeration.
const BUILTINS: &[&str] = &[
    "Ellipsis",
    "NoneType",
    "NotImplemented",
    "abs",
    "all",
    "any",
    "bool",
    "bytearray",
    "bytes",
    "complex",
    "dict",
    "enumerate",
    "float",
    "frozenset",
    "getattr",
    "int",
    "len",
    "list",
    "long",
    "max",
    "min",
    "object",
    "pow",
    "print",
    "property",
    "range",
    "reversed",
    "round",
    "set",
    "slice",
    "sorted",
    "str",
    "sum",
    "super",
    "type",
    "unicode",
    "xrange",
    "zip",
];

/// What checkpoints of timm and of PyTorch's own scripts hold beside their tensors.
const HARMLESS: &[&str] = &[
    "collections.Counter",
    "collections.deque",
    "copyreg._reconstructor",
    "copy_reg._reconstructor",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray.scalar",
    "torch.Size",
    "torch.device",
    "torch.serialization._get_layout",
];

/// The meaning of `module.name`.
pub(crate) fn meaning(module: &str, name: &str) -> Result<Meaning, Refused> {
    let path = format!("{module}.{name}");
    match path.as_str() {
        "torch.storage._load_from_bytes" => return Err(Refused::NestedFile),
        "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2" => return Ok(Meaning::RebuildTensor),
        "torch._utils._rebuild_tensor_v3" => return Ok(Meaning::RebuildTensorV3),
        "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state" => {
            return Ok(Meaning::RebuildParameter);
        }
        "torch._tensor._rebuild_from_type_v2" => return Ok(Meaning::RebuildFromType),
        "collections.OrderedDict" | "collections.defaultdict" | "builtins.dict" | "__builtin__.dict" => {
            return Ok(Meaning::Dictionary);
        }
        "numpy.core.multiarray._reconstruct" | "numpy._core.multiarray._reconstruct" => return Ok(Meaning::NumpyArray),
        "numpy.ndarray" => return Ok(Meaning::NumpyArrayClass),
        "numpy.dtype" => return Ok(Meaning::NumpyDtype),
        "_codecs.encode" => return Ok(Meaning::Encode),
        "builtins.tuple" | "__builtin__.tuple" => return Ok(Meaning::Tuple),
        "torch.Tensor" | "torch.nn.parameter.Parameter" | "torch.nn.Parameter" | "torch.nn.parameter.Buffer" => {
            return Ok(Meaning::TensorClass);
        }
        _ => {}
    }
    match module {
        "builtins" | "__builtin__" if BUILTINS.contains(&name) => return Ok(Meaning::Harmless),
        "builtins" | "__builtin__" => return Err(Refused::Dangerous),
        "torch" | "torch.cuda" | "torch.storage" => {
            if let Some(element) = Element::of_storage(name) {
                return Ok(Meaning::StorageClass(element));
            }
            if let Some(element) = Element::named(name).filter(|_| module == "torch") {
                return Ok(Meaning::ElementType(element));
            }
        }
        _ => {}
    }
    if HARMLESS.contains(&path.as_str()) {
        return Ok(Meaning::Harmless);
    }
    if is_dangerous(&path) || smuggles(name) {
        return Err(Refused::Dangerous);
    }
    Ok(Meaning::Foreign)
}

/// Whether the path is one of the list or inside of one.
fn is_dangerous(path: &str) -> bool {
    DANGEROUS
        .iter()
        .any(|refused| path.strip_prefix(refused).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// Whether a dotted name reaches through an honest module into a dangerous one: `os.system` of the module `anything`.
fn smuggles(name: &str) -> bool {
    name.contains('.')
        && name.split('.').any(|part| {
            part == "builtins" || part == "__builtins__" || part == "__globals__" || DANGEROUS.contains(&part)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_programs_is_refused_by_name() {
        let names = [
            ("os", "system"),
            ("posix", "system"),
            ("nt", "system"),
            ("os.path", "join"),
            ("subprocess", "Popen"),
            ("sys", "modules"),
            ("builtins", "eval"),
            ("__builtin__", "apply"),
            ("builtins", "__import__"),
            ("runpy", "_run_code"),
            ("importlib", "import_module"),
            ("importlib.util", "spec_from_loader"),
            ("ctypes", "CDLL"),
            ("webbrowser", "open"),
            ("numpy.testing._private.utils", "runstring"),
            ("torch", "load"),
            ("torch.hub", "load"),
            ("torch.serialization", "load"),
            ("torch.utils", "cpp_extension.load_inline"),
            ("numpy", "os.system"),
            ("collections", "abc.sys.modules"),
            ("", "os.system"),
        ];
        for (module, name) in names {
            assert_eq!(meaning(module, name), Err(Refused::Dangerous), "{module}.{name}");
        }
    }

    #[test]
    fn honest_names_are_not_refused() {
        for (module, name) in [
            ("argparse", "Namespace"),
            ("pathlib", "PosixPath"),
            ("functools", "partial"),
            ("osgeo", "Thing"),
            ("torch._dynamo.eval_frame", "OptimizedModule"),
            ("code.models", "Net"),
            ("models.code", "Codec"),
            ("torch.optim.sgd", "SGD"),
            ("omegaconf.dictconfig", "DictConfig"),
            ("torch.nn.modules.conv", "Conv2d"),
        ] {
            assert_eq!(meaning(module, name), Ok(Meaning::Foreign), "{module}.{name}");
        }
        assert_eq!(meaning("builtins", "set"), Ok(Meaning::Harmless));
        assert_eq!(meaning("numpy._core.multiarray", "scalar"), Ok(Meaning::Harmless));
    }

    #[test]
    fn storages_and_types_are_rows_of_the_table() {
        let class = |module, name| match meaning(module, name) {
            Ok(Meaning::StorageClass(element) | Meaning::ElementType(element)) => element.bytes,
            other => panic!("{other:?}"),
        };
        assert_eq!(class("torch", "FloatStorage"), 4);
        assert_eq!(class("torch.cuda", "HalfStorage"), 2);
        assert_eq!(class("torch.storage", "UntypedStorage"), 1);
        assert_eq!(class("torch", "float64"), 8);
        assert_eq!(meaning("torch.storage", "_load_from_bytes"), Err(Refused::NestedFile));
    }
}
