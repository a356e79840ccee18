"""CONDITIONING saved and loaded, on the standalone host: equal to the last bit, whole or refused in a sentence."""

import json
import math
import pickle
import struct

import pytest
import torch

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.tensors import open_tensors, write_tensors
from clip_vae_lora.files.tree import Bundle, TreeError, UnstorableError, restore
from clip_vae_lora.nodes.conditioning import file as conditioning_file
from clip_vae_lora.nodes.conditioning.nodes import LoadConditioning

from ...support.conditionings import assert_equal, entry


def saved(place, conditioning, prefix="conditioning/x", **named):
    answer = place.node("CVL_SaveConditioning").save(conditioning, prefix, **named)
    assert answer["result"][0] is conditioning
    return json.loads(answer["result"][1]), answer["ui"]


def loaded(place, file):
    return place.node("CVL_LoadConditioning").load(file)["result"][0]


TENSORS = [
    torch.arange(6).to(dtype).reshape(1, 2, 3)
    for dtype in (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.float8_e4m3fn,
        torch.complex64,
        torch.int64,
        torch.uint8,
        torch.bool,
    )
]
VALUES = [
    None, True, False, 0, -(2**70), 1.5, -0.0, math.inf, -math.inf, "", "ü\ud800 \" \\ {", [], (), {},
    [1, (2, [None, ("x",)])], {"a": {"b": (1.0,)}, 3: "int key", ("t", 1): 2, None: 0}, ("percentage", 0.25, 0.5),
    torch.tensor(3.0), torch.empty(0, 4), torch.randn(2, 3)[:, ::2], torch.randn(3, 2).T,
    torch.tensor([-math.inf, 0.0, math.nan]), [torch.ones(2), {"deep": torch.zeros(1, dtype=torch.int32)}], *TENSORS,
]  # fmt: skip


def test_what_is_loaded_is_what_was_saved(place):
    conditioning = [
        entry(options_=1, **{f"value_{n}": value for n, value in enumerate(VALUES)}),
        entry(3, seed=1, **{"a key/with: all .kinds": 1, "cond": torch.ones(2)}),
        [torch.randn(1, 2, 4).half(), {}],
    ]
    report, ui = saved(place, conditioning)
    assert report["lost"] == [] and report["entries"] == 3
    assert ui["files"] == [
        {"filename": "x_00001_.conditioning.safetensors", "subfolder": "conditioning", "type": "output"}
    ]
    assert_equal(loaded(place, "conditioning/x_00001_.conditioning.safetensors [output]"), conditioning)


def test_a_tensor_that_several_entries_share_is_stored_once(place):
    shared = entry()
    report, _ = saved(place, [shared, [shared[0], {**shared[1], "start_percent": 0.5}]])
    assert len(report["tensors"]) == 2
    assert len(loaded(place, "conditioning/x_00001_.conditioning.safetensors [output]")) == 2


def test_what_a_file_cannot_hold_is_named_and_strict_saves_nothing(place):
    circle = []
    circle.append(circle)
    meta = torch.ones(2, device="meta")
    conditioning = [entry(control=object(), hooks=[torch.ones(2), print], circle=circle, meta=meta)]
    with pytest.raises(ValueError, match="nothing was saved, because ControlNet of entry 1"):
        saved(place, conditioning, strict=True)
    assert not list(place.base.rglob("*.safetensors"))
    report, ui = saved(place, conditioning)
    assert [line.split(" of entry")[0] for line in report["lost"]] == ["ControlNet", "hooks", "'circle'", "'meta'"]
    assert len(report["tensors"]) == 2 and "ControlNet of entry 1 cannot be stored" in ui["text"][0]
    ((_, options),) = loaded(place, "conditioning/x_00001_.conditioning.safetensors [output]")
    assert list(options) == ["pooled_output"]


def test_files_are_numbered_hold_the_workflow_and_are_offered(place):
    node, menu = place.node("CVL_SaveConditioning"), LoadConditioning.INPUT_TYPES
    assert menu()["required"]["file"][0] == [conditioning_file.FILES.bundled]
    for _ in range(2):
        node.save([entry()], "conditioning/x", prompt={"1": {}}, extra_pnginfo={"workflow": {"nodes": []}})
    (place.base / "input").mkdir()
    first = place.base / "output" / "conditioning" / "x_00001_.conditioning.safetensors"
    (place.base / "input" / "mine.conditioning.safetensors").write_bytes(first.read_bytes())
    (place.base / "output" / "lora.safetensors").write_bytes(b"x")
    *names, bundled = menu()["required"]["file"][0]
    assert bundled == conditioning_file.FILES.bundled
    saved_names = [f"conditioning/x_0000{n}_.conditioning.safetensors [output]" for n in (1, 2)]
    assert names == [*saved_names, "mine.conditioning.safetensors"]
    assert_equal(loaded(place, names[2]), [entry()])
    with open_tensors(first) as file:
        assert json.loads(file.metadata["workflow"]) == {"nodes": []}
        assert json.loads(file.metadata["prompt"]) == {"1": {}}


def test_the_bundled_one_is_a_red_circle_by_the_bundled_text_encoder(place):
    clip = place.node("CVL_LoadTextEncoder").load("bundled/tiny_clip.safetensors")["result"][0]
    ((expected, options),) = place.node("CVL_TextEncode").encode(clip, "a red circle")["result"][0]
    ((hidden, others),) = loaded(place, conditioning_file.FILES.bundled)
    rounding = 1e-4  # float32 on another processor; values up to 10
    assert (hidden - expected).abs().max() < rounding
    assert (others["pooled_output"] - options["pooled_output"]).abs().max() < rounding


def test_a_file_written_anew_is_loaded_anew(place):
    saved(place, [entry()])
    name = "conditioning/x_00001_.conditioning.safetensors [output]"
    before = LoadConditioning.IS_CHANGED(name)
    assert LoadConditioning.IS_CHANGED(name) == before
    path = place.base / "output" / name.removesuffix(" [output]")
    conditioning_file.write(path, conditioning_file.store([entry(3)]), {})
    assert LoadConditioning.IS_CHANGED(name) != before and LoadConditioning.IS_CHANGED("gone") == "missing"


@pytest.mark.parametrize(
    "name",
    [
        "../secret.conditioning.safetensors",
        "../secret.conditioning.safetensors [output]",
        "/etc/passwd",
        "gone.conditioning.safetensors",
        "",
        "a\0b",
        " [output]",
    ],
)
def test_nothing_outside_the_two_folders_is_read(place, name):
    conditioning_file.write(place.base / "secret.conditioning.safetensors", conditioning_file.store([entry()]), {})
    (place.base / "output").mkdir()
    (place.base / "input").mkdir()
    with pytest.raises(FileNotFoundError):
        loaded(place, name)


@pytest.mark.parametrize("prefix", ["\ud800", "x" * 300])
def test_a_name_that_no_file_can_have_is_refused_in_a_sentence(place, prefix):
    with pytest.raises(ValueError, match="no file name can have|cannot be written"):
        saved(place, [entry(1)], prefix)


def test_a_name_of_half_a_character_is_not_found(place):
    with pytest.raises(FileNotFoundError, match="there is no"):
        loaded(place, "\ud800 [output]")


def test_views_that_negate_or_conjugate_are_saved_as_what_they_show(place):
    numbers = torch.view_as_complex(torch.arange(8.0).reshape(1, 2, 2, 2)).conj()
    for shown in (numbers, numbers.imag):
        file = saved(place, [[shown, {}]], "x")[1]["files"][0]
        back = loaded(place, f"{file['filename']} [output]")
        assert torch.equal(back[0][0], shown)


def test_a_quantized_tensor_without_its_scale_is_refused():
    stored = torch.zeros(8, dtype=torch.uint8)
    with pytest.raises(TreeError, match="no tensor known here"):
        restore({"tensor": "a", "dtype": "torch.quint8", "shape": [8]}, lambda name: stored)


@pytest.mark.parametrize(
    ("prefix", "why"), [("../x", "not allowed"), ("/x/../../y", "not allowed"), ("", "names none")]
)
def test_nothing_is_saved_outside_the_output_folder(place, prefix, why):
    with pytest.raises(ValueError, match=why):
        saved(place, [entry()], prefix)


def as_input(place, data: bytes) -> str:
    (place.base / "input").mkdir(exist_ok=True)
    (place.base / "input" / "a.conditioning.safetensors").write_bytes(data)
    return "a.conditioning.safetensors"


def test_another_safetensors_file_and_a_pickle_are_refused_in_a_sentence(place):
    path = place.base / "a.safetensors"
    write_tensors(path, {"lora_up": torch.ones(2)}, {})
    for data, said in [
        (path.read_bytes(), "holds something else .1 tensors, 'lora_up'"),
        (pickle.dumps([entry()]), "safetensors"),
        (b"", "empty"),
        (b"hello", "expected"),
    ]:
        with pytest.raises(FileFormatError, match=said) as error:
            loaded(place, as_input(place, data))
        assert "\n" not in str(error.value)
    torch.save([entry()], path)
    with pytest.raises(FileFormatError, match="safetensors file"):
        loaded(place, as_input(place, path.read_bytes()))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        '{"version": 1}',
        '{"version": "1", "entries": []}',
        '{"version": 1, "entries": []}',
        '{"version": 1, "entries": [1]}',
        '{"version": 1, "entries": [[{"tensor": "gone"}, {"dict": []}]]}',
        '{"version": 1, "entries": [[{"tensor": "t", "dtype": "torch.float64", "shape": [9]}, {"dict": []}]]}',
        '{"version": 1, "entries": [[{"tensor": "t", "dtype": "os.system", "shape": [1]}, {"dict": []}]]}',
        '{"version": 1, "entries": [[{"tensor": "t", "dtype": "torch.uint8", "shape": ["x"]}, {"dict": []}]]}',
        '{"version": 1, "entries": [[{"tensor": "t"}, {"dict": [[[1], 2]]}]]}',
        '{"version": 1, "entries": [[{"tensor": "t"}, {"dict": [1]}]]}',
        '{"version": 1, "entries": [[{"tensor": "t"}, {"float": "1.5"}]]}',
        '{"version": 1, "entries": [[{"tensor": "t"}, {"call": "x"}]]}',
        '{"version": 2, "entries": []}',
        "[" * 100_000,
        '{"version": 1, "entries": ' + "[" * 500 + "]" * 500 + "}",
        '{"version": 1, "entries": ' + "9" * 5000 + "}",
    ],
)
def test_a_damaged_description_is_a_sentence(place, text):
    path = place.base / "a.safetensors"
    write_tensors(path, {"t": torch.ones(3, dtype=torch.uint8)}, {"cvl_conditioning": text})
    with pytest.raises(FileFormatError) as error:
        loaded(place, as_input(place, path.read_bytes()))
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_file_cut_short_is_a_sentence(place):
    saved(place, [entry()])
    (path,) = place.base.rglob("*.conditioning.safetensors")
    data = path.read_bytes()
    for cut in (4, 100, len(data) - 1):
        with pytest.raises(FileFormatError):
            loaded(place, as_input(place, data[:cut]))
    with pytest.raises(FileFormatError):
        loaded(place, as_input(place, struct.pack("<Q", 2**60) + data[8:]))


def test_what_has_no_tensors_is_not_saved(place):
    for value, said in [
        ([[None, {}]], "no tensors"),
        ([], "without entries"),
        (None, "NoneType"),
        ([[object(), {}]], "the tokens of entry 1 cannot be stored"),
    ]:
        with pytest.raises(ValueError, match=said):
            saved(place, value)


def test_a_value_that_cannot_be_stored_leaves_no_tensor_behind():
    bundle = Bundle()
    with pytest.raises(UnstorableError, match="of the kind object"):
        bundle.add([torch.ones(2), object()], "a")
    assert bundle.tensors == {}
    with pytest.raises(UnstorableError, match="kind int"):
        bundle.add(10**5000, "a")
    with pytest.raises(TreeError):
        restore({"tensor": 3}, lambda name: torch.ones(1))
