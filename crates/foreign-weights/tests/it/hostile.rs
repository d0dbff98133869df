//! The reader against files that were made to do harm, and against damaged ones.
use std::path::Path;
use std::time::{Duration, Instant};

use crate::build::{Entry, Pickle, one_tensor, torch_legacy, torch_zip, zip};
use foreign_weights::{ForeignWeights, Values};

/// What is said about the file, all causes, or that it was read.
fn verdict(bytes: &[u8]) -> String {
    let started = Instant::now();
    let result = ForeignWeights::parse(Path::new("w.pth"), bytes, None);
    assert!(started.elapsed() < Duration::from_secs(20), "it took {:?}", started.elapsed());
    match result {
        Ok(weights) => format!("read {} tensors\n{}", weights.tensors.len(), weights.notes.join("\n")),
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text = format!("{text}\n{error}");
                cause = error.source();
            }
            text
        }
    }
}

/// The same pickle in both formats.
#[track_caller]
fn says(pickle: &[u8], expected: &str) {
    for file in [torch_zip(pickle, &[0; 16]), torch_legacy(pickle, &[0; 16])] {
        let verdict = verdict(&file);
        assert!(verdict.contains(expected), "`{expected}` is not in: {verdict}");
    }
}

#[test]
fn the_files_built_here_are_sound() {
    let pickle = one_tensor(4, 0, &[2, 2], &[2, 1]);
    let storage: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    for file in [torch_zip(&pickle, &storage), torch_legacy(&pickle, &storage)] {
        let weights = ForeignWeights::parse(Path::new("w.pth"), &file, None).expect("weights");
        assert_eq!(weights.tensors[0].values, Values::F32(vec![1.0, 2.0, 3.0, 4.0]));
        assert_eq!(weights.tensors[0].shape, [2, 2]);
    }
}

#[test]
fn a_call_of_the_system_is_refused_by_name_and_not_made() {
    let marker = std::env::temp_dir().join("ghostnet-was-run");
    let command = format!("touch {}", marker.display());
    for (module, name) in [("os", "system"), ("posix", "system"), ("nt", "system"), ("subprocess", "call")] {
        let pickle = Pickle::new().global(module, name).raw(b"(").text(&command).raw(b"tR").stop();
        says(&pickle, &format!("names `{module}.{name}`, which can run programs"));
    }
    let pickle = Pickle::new().global("builtins", "eval").raw(b"(").text("1").raw(b"tR").stop();
    says(&pickle, "names `builtins.eval`");
    assert!(!marker.exists());
}

#[test]
fn a_dangerous_name_is_refused_even_where_nothing_uses_it() {
    let unused = Pickle::new().global("os", "system").raw(b"0}").text("a.weight").tensor(4, 0, &[4], &[1]).raw(b"s");
    says(&unused.stop(), "names `os.system`");
    let stacked = Pickle(vec![0x80, 4]).raw(b"\x8c\x02os\x8c\x06system\x93.").0;
    says(&stacked, "names `os.system`");
    let instance = Pickle::new().raw(b"(").text("ls").raw(b"ios\nsystem\n.").0;
    says(&instance, "names `os.system`");
    let object = Pickle::new().raw(b"(").global("os", "system").text("ls").raw(b"o.").0;
    says(&object, "names `os.system`");
    let dotted = Pickle(vec![0x80, 4]).raw(b"\x8c\x05numpy\x8c\x09os.system\x93.").0;
    says(&dotted, "names `numpy.os.system`");
}

#[test]
fn a_name_cannot_write_to_the_terminal() {
    let pickle = Pickle::new().global("os", "\u{1b}]0;owned\u{7}").stop();
    says(&pickle, "`os.\\u{1b}]0;owned\\u{7}`");
}

#[test]
fn a_tensor_of_a_foreign_function_is_refused_by_its_name() {
    let pickle = Pickle::new().raw(b"}").text("a.weight").tensor(4, 0, &[4], &[1]).raw(b"s").text("b.weight");
    let made = pickle.clone().global("wild.codec", "decode").raw(b"(").raw(b"C\x02xx").raw(b"tRs").stop();
    says(&made, "tensor `b.weight` is made by `wild.codec.decode`");
    let wrapped = pickle.clone().global("wild", "Wrap").raw(b"(").tensor(4, 0, &[4], &[1]).raw(b"tRs").stop();
    says(&wrapped, "tensor `b.weight` is made by `wild.Wrap`");
    // Whatever a placeholder is called with, or what it is asked to call, it stays one.
    let nested = pickle.clone().global("builtins", "getattr").raw(b"(").global("wild", "module").text("run");
    let nested = nested.raw(b"tR(").text("rm").raw(b"tRs").stop();
    says(&nested, "tensor `b.weight` is made by `builtins.getattr`");
    // A tensor on what another program would have made.
    let storage = pickle.global("torch._utils", "_rebuild_tensor_v2").raw(b"(").global("wild", "Storage").raw(b")R");
    let storage = storage.int(0).tuple(&[4]).tuple(&[1]).raw(b"\x89Nt").raw(b"Rs").stop();
    says(&storage, "tensor `b.weight` is made by `wild.Storage`");
}

#[test]
fn a_tensor_whose_numbers_stand_for_others_is_refused() {
    let negated = Pickle::new().raw(b"}").text("a.weight").global("torch._utils", "_rebuild_tensor_v2").raw(b"(");
    let negated = negated.storage(4).int(0).tuple(&[4]).tuple(&[1]).raw(b"\x89N}").text("neg").raw(b"\x88stRs").stop();
    says(&negated, "tensor `a.weight` is made by `torch._utils._rebuild_tensor_v2`");
}

#[test]
fn a_tensor_whose_state_is_set_is_refused() {
    let pickle = Pickle::new().raw(b"}").text("a.weight").tensor(4, 0, &[4], &[1]).tuple(&[1]).raw(b"bs").stop();
    says(&pickle, "is made by `torch.Tensor.__setstate__`");
}

#[test]
fn foreign_objects_beside_the_tensors_are_named_and_nothing_more() {
    let pickle = Pickle::new().raw(b"}").text("args").global("wild", "Args").raw(b")\x81}").text("a").raw(b"Nsbs");
    let pickle = pickle.text("a.weight").tensor(4, 0, &[4], &[1]).raw(b"s").stop();
    says(&pickle, "objects of other programs were not read: `wild.Args`");
    says(&pickle, "left out 1 entries that are not tensors: `args`");
}

#[test]
fn tensors_that_reach_outside_are_refused() {
    says(&one_tensor(4, 0, &[5], &[1]), "it needs 5 elements of storage `0`, which has 4");
    says(&one_tensor(4, 4, &[1], &[1]), "it needs 5 elements");
    says(&one_tensor(4, i64::MAX, &[1], &[1]), "it needs 9223372036854775808 elements");
    says(&one_tensor(4, 0, &[2, 2], &[4, 1]), "it needs 6 elements");
    says(&one_tensor(4, 0, &[3, 3], &[i64::MAX, i64::MAX]), "more numbers than can be counted");
    says(&one_tensor(4, 0, &[1 << 40, 1 << 40], &[0, 0]), "more numbers than can be counted");
    says(&one_tensor(4, 0, &[1 << 40], &[0]), "more than 40000000 numbers");
    says(&one_tensor(4, 3, &[2], &[-1]), "its stride is -1");
    says(&one_tensor(4, 0, &[-2], &[1]), "its length of a dimension is -2");
    says(&one_tensor(4, -1, &[2], &[1]), "its offset is -1");
    says(&one_tensor(4, 0, &[2, 2], &[1]), "2 dimensions and 1 strides");
    says(&one_tensor(4, 0, &[1; 17], &[1; 17]), "beyond 16 dimensions of a tensor");
    says(&one_tensor(5, 0, &[2], &[1]), "should have 20 bytes and has 16");
    says(&one_tensor(i64::MAX, 0, &[2], &[1]), "and has 16");
    says(&one_tensor(-1, 0, &[2], &[1]), "a storage without a size");
}

#[test]
fn many_tensors_on_few_bytes_cannot_fill_the_memory() {
    let mut pickle = Pickle::new().raw(b"}").text("0").tensor(1, 0, &[1 << 22], &[0]).raw(b"q\x01s");
    for number in 1..1000 {
        pickle = pickle.text(&number.to_string()).raw(b"h\x01s");
    }
    says(&pickle.stop(), "more than 40000000 numbers");
}

#[test]
fn a_billion_laughs_are_one_smile() {
    let mut pickle = Pickle::new().raw(b"}").text("a.weight").tensor(4, 0, &[4], &[1]).raw(b"s");
    pickle = pickle.text("joke").raw(b"]").text("ha").raw(b"aq\x00");
    for level in 1..=100u8 {
        pickle = pickle.raw(b"0](").raw(&[b'h', level - 1].repeat(10)).raw(&[b'e', b'q', level]);
    }
    says(&pickle.raw(b"s").stop(), "read 1 tensors");
    // The same with dictionaries, under keys that are looked into.
    let mut pickle = Pickle::new().raw(b"}").text("none").raw(b"Nsq\x00");
    for level in 1..=100u8 {
        pickle = pickle.raw(b"0}(");
        for key in ["state_dict", "model", "ema", "net", "module", "a", "b", "c", "d", "e"] {
            pickle = pickle.text(key).raw(&[b'h', level - 1]);
        }
        pickle = pickle.raw(&[b'u', b'q', level]);
    }
    says(&pickle.stop(), "no dictionary of tensors is in it");
}

#[test]
fn what_is_copied_is_charged_for() {
    // A long list of pairs, and a dictionary made out of it again and again.
    let mut pickle = Pickle::new().raw(b"](NN\x86").raw(b"q\x00").raw(&b"h\x00".repeat(10_000)).raw(b"e\x85q\x01");
    pickle = pickle.global("collections", "OrderedDict").raw(b"q\x020");
    says(&pickle.raw(&b"h\x02h\x01R0".repeat(100_000)).raw(b"N").stop(), "beyond 4000000 instructions");
    // Many tensors out of one set of arguments.
    let pickle = Pickle::new().global("torch._utils", "_rebuild_tensor_v2").raw(b"q\x000(").storage(4).int(0);
    let pickle = pickle.tuple(&[1; 16]).tuple(&[1; 16]).raw(b"\x89Ntq\x010");
    says(&pickle.raw(&b"h\x00h\x01R0".repeat(500_000)).raw(b"N").stop(), "beyond 4000000 instructions");
}

#[test]
fn deep_nesting_ends_in_a_message() {
    let levels = 100_000;
    says(&Pickle::new().raw(&b"(".repeat(levels)).stop(), "beyond 1000 nested marks");
    let lists = Pickle::new().raw(&b"]".repeat(levels)).raw(&b"a".repeat(levels - 1)).stop();
    says(&lists, "it holds a list");
    let tuples = Pickle::new().raw(b")").raw(&b"\x85".repeat(levels)).stop();
    says(&tuples, "it holds a tuple");
    let dictionaries = Pickle::new().raw(&b"}U\x05model".repeat(levels)).raw(b"N").raw(&b"s".repeat(levels)).stop();
    says(&dictionaries, "no dictionary of tensors is in it; its keys are `model`");
    says(&Pickle::new().raw(&b"N".repeat(1_000_001)).stop(), "beyond 1000000 objects on its stack");
    says(&Pickle::new().raw(&b"N0".repeat(2_000_001)).stop(), "beyond 4000000 instructions");
}

#[test]
fn a_dictionary_that_holds_itself_is_walked_once() {
    let pickle = Pickle::new().raw(b"}q\x00").text("model").raw(b"h\x00s").text("state_dict").raw(b"h\x00s").stop();
    says(&pickle, "no dictionary of tensors is in it");
    let pickle = Pickle::new().raw(b"}q\x00").text("model").raw(b"h\x00s").text("a").tensor(4, 0, &[4], &[1]).raw(b"s");
    says(&pickle.stop(), "read 1 tensors");
}

#[test]
fn wrong_instructions_are_named() {
    says(b"\x80\x02\xff.", "of the pickle is 0xff, which is not an instruction");
    says(b"\x80\x06.", "protocol 6");
    says(b"\x80\x02\x82\x01.", "`EXT1`");
    says(b"\x80\x02\x97.", "`NEXT_BUFFER`");
    says(b"\x80\x02P1\n.", "`PERSID`");
    for wrong in
        [&b"."[..], b"0.", b"R.", b"NNR.", b"t.", b"e.", b"(u.", b"}(Nu.", b"Na.", b"h\x07.", b"NNb.", b"NQ.", b"\x87."]
    {
        says(&[b"\x80\x02", wrong].concat(), "the pickle makes no sense at byte");
    }
    says(b"\x80\x02X\xff\xff\xff\xff.", "ends at byte");
    says(b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", "ends at byte");
    says(
        &Pickle::new().raw(b"c").raw(&b"x".repeat(600)).raw(b"\ny\n.").0,
        "beyond 512 bytes in the name of a function",
    );
}

#[test]
fn pickles_of_python_2_are_read() {
    // Protocol 0 and 1 as Python 2 wrote them: text instructions, byte strings as keys.
    let text = b"\x80\x01(dp0\nS'a'\np1\nI3\nsS\"it's\"\np2\nL4L\nsVm\\u00e4\np3\nF0.5\nsU\x01bI01\nsT\x01\0\0\0c(lp4\nI1\naI2\nas.";
    says(text, "its keys are `a`, `it's`, `mä`, `b`, `c`");
}

#[test]
fn zip_files_that_unpack_to_far_more_are_refused() {
    use std::io::Write;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![0; 64 << 20]).expect("memory");
    let packed = encoder.finish().expect("memory");
    let bomb = Entry { method: 8, size: Some(64 << 20), ..Entry::new("a/data/0", &packed) };
    let pickle = Entry::new("a/data.pkl", &one_tensor(4, 0, &[4], &[1]));
    let verdict_of = |bomb: Entry| verdict(&zip(&[pickle.clone(), bomb]));
    assert!(verdict_of(bomb.clone()).contains("would unpack to 67108864 bytes"));
    // The directory lies about it.
    let liar = Entry { size: Some(16), ..bomb };
    assert!(verdict_of(liar).contains("`a/data/0` of the zip file is damaged"));
    // Many small ones.
    let many: Vec<_> = (0..100)
        .map(|number| Entry { method: 8, size: Some(8 << 20), ..Entry::new(&format!("a/data/{number}"), b"\x03\0") })
        .collect();
    assert!(verdict(&zip(&many)).contains("would unpack to 838860800 bytes"));
}

#[test]
fn zip_files_whose_entries_overlap_are_refused() {
    let pickle = Entry::new("a/data.pkl", &one_tensor(4, 0, &[4], &[1]));
    let twin = Entry { header: Some(0), ..pickle.clone() };
    let twin = Entry { name: "a/data/0".to_string(), ..twin };
    assert!(verdict(&zip(&[pickle.clone(), twin])).contains("share bytes: `a/data/0`"));
    assert!(verdict(&zip(&[pickle.clone(), pickle])).contains("have the same name: `a/data.pkl`"));
}

#[test]
fn zip_files_that_point_outside_are_refused() {
    let pickle = Entry::new("a/data.pkl", &one_tensor(4, 0, &[4], &[1]));
    let wrong = |entry: Entry| verdict(&zip(&[pickle.clone(), entry]));
    let storage = Entry::new("a/data/0", &[0; 16]);
    assert!(wrong(Entry { header: Some(u32::MAX - 1), ..storage.clone() }).contains("the zip file is damaged"));
    assert!(wrong(Entry { header: Some(1), ..storage.clone() }).contains("does not begin where its directory says"));
    assert!(wrong(Entry { packed: Some(1 << 20), size: Some(1 << 20), ..storage.clone() }).contains("damaged"));
    assert!(wrong(Entry { packed: Some(8), ..storage.clone() }).contains("has two sizes"));
    assert!(wrong(Entry { flags: 1, ..storage.clone() }).contains("is encrypted"));
    assert!(wrong(Entry { method: 12, ..storage.clone() }).contains("compressed with method 12"));
    assert!(wrong(Entry { checksum: 7, ..storage.clone() }).contains("its checksum does not fit"));
    assert!(wrong(Entry { name: "b/data/0".to_string(), ..storage }).contains("storage `0` is not in the file"));
    // Names that climb are only names.
    assert!(wrong(Entry::new("../../etc/passwd", b"x")).contains("storage `0` is not in the file"));
}

#[test]
fn a_file_of_after_its_end_says_so() {
    let file = torch_zip(&one_tensor(4, 0, &[4], &[1]), &[0; 16]);
    assert!(verdict(&file[..file.len() - 1]).contains("no directory at its end"));
    let file = torch_legacy(&one_tensor(4, 0, &[4], &[1]), &[0; 16]);
    assert!(verdict(&file[..file.len() - 1]).contains("storage `0` reaches beyond the end of the file"));
}

#[test]
fn old_files_are_checked_in_every_part() {
    let tensor = one_tensor(4, 0, &[4], &[1]);
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    let file = |version: &[u8], names: &[u8]| [&magic[..], version, b"\x80\x02}.", &tensor, names, &[0; 24]].concat();
    let names = Pickle::new().raw(b"]").text("0").raw(b"a").stop();
    assert!(verdict(&file(b"\x80\x02M\xea\x03.", &names)).contains("version 1002"));
    assert!(verdict(&file(b"\x80\x02M\xe9\x03.", b"\x80\x02N.")).contains("they are not a list"));
    let other = Pickle::new().raw(b"]").text("1").raw(b"a").stop();
    assert!(verdict(&file(b"\x80\x02M\xe9\x03.", &other)).contains("no tensor has storage `1`"));
    let twice = Pickle::new().raw(b"]").text("0").raw(b"a").text("0").raw(b"a").stop();
    assert!(verdict(&file(b"\x80\x02M\xe9\x03.", &twice)).contains("`0` comes twice"));
    assert!(verdict(b"\x80\x02}.").contains("not a file of `torch.save`"));
}

#[test]
fn a_part_of_a_storage_of_old_files_is_read() {
    let storage: Vec<u8> = (0..4u8).flat_map(|value| f32::from(value).to_le_bytes()).collect();
    let pickle = |first: i64, length: i64| {
        let pickle = Pickle::new().raw(b"}").text("a.weight").global("torch._utils", "_rebuild_tensor").raw(b"((");
        let pickle = pickle.text("storage").global("torch", "FloatStorage").text("0").text("cpu").int(4).raw(b"(");
        let pickle = pickle.text("7").int(first).int(length).raw(b"ttQ");
        pickle.int(1).tuple(&[2]).tuple(&[1]).raw(b"tRs").stop()
    };
    let file = torch_legacy(&pickle(1, 3), &storage);
    let weights = ForeignWeights::parse(Path::new("w.pth"), &file, None).expect("weights");
    assert_eq!(weights.tensors[0].values, Values::F32(vec![2.0, 3.0]));
    assert!(verdict(&torch_legacy(&pickle(1, 2), &storage)).contains("it needs 3 elements"));
    assert!(verdict(&torch_legacy(&pickle(2, 3), &storage)).contains("should have 20 bytes and has 16"));
}

#[test]
fn headers_of_safetensors_are_not_believed() {
    let file = |header: &str, data: usize| {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
    };
    let of = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    assert!(verdict(&file(&of("F32", "[2]", "[0,8]"), 8)).starts_with("read 1 tensors"));
    for wrong in [
        file(&of("F32", "[2]", "[0,8]"), 4),
        file(&of("F32", "[2]", "[0,8]"), 12),
        file(&of("F32", "[3]", "[0,8]"), 8),
        file(&of("F32", "[18446744073709551615,2]", "[0,8]"), 8),
        file(&of("F32", "[2]", "[8,0]"), 8),
        file(&of("F32", "[-2]", "[0,8]"), 8),
        file(&of("F33", "[2]", "[0,8]"), 8),
        file("{", 8),
        file(&format!("{}{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000)), 8),
    ] {
        let verdict = verdict(&wrong);
        assert!(verdict.contains("not a whole safetensors file"), "{verdict}");
    }
    assert!(verdict(&file(&of("F8_E4M3", "[8]", "[0,8]"), 8)).contains("which is not read"));
    assert!(verdict(&file("{}", 0)).contains("it is a safetensors file that holds no tensors"));
    assert!(
        verdict(&file(&of("F32", &format!("[{}1]", "1,".repeat(99)), "[0,4]"), 4)).contains("it has 100 dimensions")
    );
    let mut huge = (1u64 << 40).to_le_bytes().to_vec();
    huge.push(b'{');
    assert!(verdict(&huge).contains("its header says that it has 1099511627776 bytes"));
    let mut beyond = 1000u64.to_le_bytes().to_vec();
    beyond.push(b'{');
    assert!(verdict(&beyond).contains("not a whole safetensors file"));
}

#[test]
fn what_people_take_for_weights_is_named() {
    for (bytes, expected) in [
        (&b""[..], "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "run `git lfs pull`"),
        (b"<!DOCTYPE html><html>", "it is a web page"),
        (b"\xef\xbb\xbf\r\n  <!DocType HTML>", "it is a web page"),
        (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", "it is an XML document"),
        (b"\x08\x08\x12\x07pytorch", "it is an ONNX file"),
        (b"\x1c\0\0\0TFL3", "it is a TensorFlow Lite file"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "it is a JPEG image"),
        (b"\x1f\x8b\x08\0", "compressed with gzip"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"\x93NUMPY", "NumPy"),
        (b"hello", "neither a safetensors file nor one of PyTorch"),
        (b"PK\x03\x04", "no directory at its end"),
    ] {
        let verdict = verdict(bytes);
        assert!(verdict.contains(expected), "{verdict}");
    }
}

#[test]
fn a_pickle_of_arrays_runs_nothing_and_names_what_it_is_made_by() {
    let sound = Pickle::new().raw(b"}").text("a").array(&[1], b"C\x04\0\0\x80?").raw(b"s");
    assert!(verdict(&sound.clone().stop()).contains("read 1 tensors"));
    let called = sound.clone().text("b").global("os", "system").raw(b"(").text("ls").raw(b"tRs").stop();
    assert!(verdict(&called).contains("names `os.system`, which can run programs"));
    let foreign = sound.clone().text("b.weight").global("wild", "decode").raw(b"(NtRs").stop();
    assert!(verdict(&foreign).contains("tensor `b.weight` is made by `wild.decode`"));
    let class =
        sound.clone().text("b").global("numpy.core.multiarray", "_reconstruct").raw(b"(").global("wild", "Array");
    let class = class.tuple(&[0]).raw(b"C\x01btRs").stop();
    assert!(verdict(&class).contains("tensor `b` is made by `wild.Array`"));
    let empty =
        sound.clone().text("b").global("numpy.core.multiarray", "_reconstruct").raw(b"(").global("numpy", "ndarray");
    let empty = empty.tuple(&[0]).raw(b"C\x01btRs").stop();
    assert!(verdict(&empty).contains("tensor `b` is made by `numpy.core.multiarray._reconstruct`"));
    let twice = Pickle::new().raw(b"}").text("a").array(&[1], b"C\x04\0\0\x80?").raw(b"NbsN0").stop();
    assert!(verdict(&twice).contains("is made by `numpy.ndarray.__setstate__`"), "{}", verdict(&twice));
}

#[test]
fn an_array_is_as_large_as_its_bytes() {
    for shape in [&[2][..], &[0], &[-1], &[1 << 40, 1 << 40], &[i64::MIN, 2], &[1, 1, 2]] {
        let file = Pickle::new().raw(b"}").text("a").array(shape, b"C\x04\0\0\x80?").raw(b"s").stop();
        assert!(verdict(&file).contains("more or fewer bytes than its shape has"), "{shape:?}: {}", verdict(&file));
    }
    let file = Pickle::new().raw(b"}").text("a").array(&[1; 17], b"C\x04\0\0\x80?").raw(b"s").stop();
    assert!(verdict(&file).contains("beyond 16 dimensions"));
}

#[test]
fn many_arrays_on_few_bytes_cannot_fill_the_memory_or_the_time() {
    let numbers = 1 << 20;
    let bytes = [&b"B"[..], &(4 * numbers as u32).to_le_bytes(), &vec![0; 4 * numbers as usize]].concat();
    let mut pickle = Pickle::new().raw(b"}").text("0").array(&[numbers], &bytes).raw(b"q\x01s");
    for number in 1..100 {
        pickle = pickle.text(&number.to_string()).raw(b"h\x01s");
    }
    assert!(verdict(&pickle.stop()).contains("more than 40000000 numbers"));
    // One long text that stands for bytes, again and again.
    let text = "\0".repeat(4 << 20);
    let pickle = Pickle::new().raw(b"}q\0").text(&text).raw(b"q\x02").text("latin1").raw(b"\x86q\x030");
    let pickle = pickle.global("_codecs", "encode").raw(b"q\x040").raw(&b"h\x04h\x03R0".repeat(700_000));
    let pickle = pickle.raw(b"h\0").text("a").array(&[1 << 20], b"h\x04h\x03R").raw(b"s.").0;
    let verdict = verdict(&pickle);
    assert!(verdict.contains("read 1 tensors"), "{verdict}");
}
