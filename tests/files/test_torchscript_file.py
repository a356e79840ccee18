"""TorchScript archives: what PyTorch writes is read bit for bit, and nothing in a hostile one is ever executed."""

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.tensors import open_tensors

from ..support.files.pickles import module, pickled, tensor, text, written

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")


class Small(torch.nn.Module):
    """One of each: parameters, buffers, both precisions, a list of modules, attributes that are no tensors."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3).half()
        self.norm = torch.nn.BatchNorm2d(4)
        self.blocks = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 4))
        self.scale = torch.nn.Parameter(torch.tensor(4.6))
        self.register_buffer("input_resolution", torch.tensor(224))
        self.register_buffer("attn_mask", torch.full((3, 3), -torch.inf).triu(1))
        self.sizes, self.number, self.names = (1, 2.5, "x"), 3, ["a", "b"]

    def forward(self, x):
        return self.norm(self.conv(x.half()).float()).mean((2, 3)) * self.scale + self.number


@pytest.fixture(scope="module", params=["script", "trace"])
def archive(request, tmp_path_factory):
    """A file that PyTorch wrote."""
    torch.manual_seed(0)
    model, path = Small().eval(), tmp_path_factory.mktemp("torchscript") / "clip.pt"
    made = torch.jit.script(model) if request.param == "script" else torch.jit.trace(model, torch.zeros(1, 3, 8, 8))
    torch.jit.save(made, path)
    return path


def test_it_gives_the_state_dict_of_the_program_bit_for_bit(archive):
    expected = torch.jit.load(archive).state_dict()
    with open_tensors(archive) as file:
        assert set(file.shapes) == set(expected) and "torchscript" in file.metadata and not file.ignored
        tensors = file.read(file.shapes)
    for name, wanted in expected.items():
        assert torch.equal(tensors[name], wanted) and tensors[name].dtype == wanted.dtype, name


def test_views_of_one_storage_are_taken_apart(tmp_path):
    class Views(torch.nn.Module):
        def __init__(self):
            super().__init__()
            whole = torch.arange(24.0).reshape(4, 6)
            self.register_buffer("turned", whole.T[1:3])
            self.register_buffer("row", whole[2])
            self.register_buffer("none", torch.empty(0, 3))

        def forward(self, x):
            return x

    torch.jit.script(Views()).save(tmp_path / "a.pt")
    with open_tensors(tmp_path / "a.pt") as file:
        read = file.read(["turned", "row", "none"])
    assert read["turned"].equal(torch.arange(24.0).reshape(4, 6).T[1:3]) and read["turned"].is_contiguous()
    assert read["row"].tolist() == [12, 13, 14, 15, 16, 17] and read["none"].shape == (0, 3)


def refusal(path) -> str:
    with pytest.raises(FileFormatError) as caught, open_tensors(path) as file:
        file.read(file.shapes)
    assert str(caught.value).startswith(path.name + ": ") and "\n" not in str(caught.value)
    return str(caught.value)


def test_the_archives_written_here_by_hand_are_read(tmp_path):
    """So that what the tests below change is what they are refused for. OpenAI's storages lay on cuda:0."""
    data = np.arange(6, dtype="<f4").tobytes()
    with open_tensors(written(tmp_path / "a.pt", pickled(module(w=tensor())), [("0", data)])) as file:
        assert file.read(["w"])["w"].tolist() == [[0, 1, 2], [3, 4, 5]] and file.metadata == {"torchscript": "CLIP"}


class Code:
    """Runs code when unpickled: leaves a folder behind."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, protocol):
    mark = tmp_path / "it-ran"
    said = refusal(written(tmp_path / "a.pt", pickle.dumps({"w": Code(mark)}, protocol)))
    assert "mkdir" in said or "which PyTorch does not write there" in said
    assert "nothing was run" in said and not mark.exists()


@pytest.mark.parametrize(
    "name",
    [
        "os system",
        "builtins eval",
        "builtins getattr",
        "torch load",
        "torch.jit load",
        "torch.nn.modules.linear Linear",
        "torch._utils _rebuild_parameter",
        "__torch__x CLIP",
        "torch.storage _load_from_bytes",
        "torch.FloatStorage x",
    ],
)
def test_every_other_name_is_refused(tmp_path, name):
    place, own = name.split(" ")
    called = b"c" + place.encode() + b"\n" + own.encode() + b"\n(" + text("x") + b"tR"
    said = refusal(written(tmp_path / "a.pt", pickled(module(w=tensor(), evil=called))))
    assert f"asks for '{place}.{own}', which is code" in said


@pytest.mark.parametrize(
    "changes",
    [
        {"length": 7},
        {"shape": (3, 3)},
        {"offset": 1},
        {"stride": (4, 1)},
        {"shape": (-2, 3)},
        {"stride": (-3, 1)},
        {"offset": -1},
        {"shape": (10**9, 10**9), "stride": (0, 0)},
        {"shape": (2**61,), "stride": (1,)},
        {"shape": (2, 3, 1)},
        {"shape": (1,) * 9, "stride": (1,) * 9},
        {"record": "1"},
        {"record": "../data.pkl"},
        {"kind": "torch DoubleStorage"},
        {"kind": "collections OrderedDict"},
        {"length": 2**70},
    ],
)
def test_a_tensor_that_claims_what_is_not_there_is_refused(tmp_path, changes):
    if changes == {"length": 7}:  # a storage may be longer than the tensor in it, but not than the file
        changes = {"length": 7, "shape": (7,), "stride": (1,)}
    said = refusal(written(tmp_path / "a.pt", pickled(module(w=tensor(**changes)))))
    assert "tensor 'w'" in said


def test_compressed_or_doubled_data_are_refused(tmp_path):
    data = pickled(module(w=tensor()))
    assert "zip bomb" in refusal(written(tmp_path / "a.pt", data, compressed={"data/0"}))
    assert "zip bomb" in refusal(written(tmp_path / "b.pt", data, compressed={"data.pkl"}))
    with pytest.warns(UserWarning, match="Duplicate name"):
        written(tmp_path / "c.pt", data, [("0", bytes(24)), ("0", bytes(24))])
    assert "zip bomb" in refusal(tmp_path / "c.pt")


def test_compressed_programs_do_not_matter(tmp_path):
    path = written(tmp_path / "a.pt", pickled(module(w=tensor())), compressed={"code/__torch__.py"})
    with open_tensors(path) as file:
        assert set(file.shapes) == {"w"}


def test_what_else_is_wrong_is_said(tmp_path):
    data = pickled(module(w=tensor()))
    assert "big-endian" in refusal(written(tmp_path / "a.pt", data, extra=[("byteorder", b"big")]))
    with zipfile.ZipFile(written(tmp_path / "b.pt", data), "a") as archive:
        archive.writestr("b/data/0", bytes(24))
    assert "more than one folder" in refusal(tmp_path / "b.pt")
    assert "16 MiB is the limit" in refusal(written(tmp_path / "c.pt", data + bytes(2**24)))
    assert "without one tensor" in refusal(written(tmp_path / "d.pt", pickled(module(n=b"N"))))
    assert "without a module" in refusal(written(tmp_path / "e.pt", pickled(tensor())))
    assert "without a proper name" in refusal(written(tmp_path / "f.pt", pickled(module(**{"a b": b"N"}))))
    assert "without a proper name" in refusal(written(tmp_path / "g.pt", pickled(module(**{"x" * 101: b"N"}))))


def test_trees_that_would_never_end_are_refused(tmp_path):
    deep = b"N"
    for _ in range(40):
        deep = module(inner=deep)
    assert "deeper or larger" in refusal(written(tmp_path / "deep.pt", pickled(deep)))
    assert "deeper or larger" in refusal(written(tmp_path / "wide.pt", pickled(_nested_twice(30))))


def _nested_twice(depth: int) -> bytes:
    """A module that has one module twice, which has one twice, and so on."""
    if not depth:
        return module(w=tensor())
    name = bytes([depth])
    return module(a=_nested_twice(depth - 1) + b"q" + name, b=b"h" + name)


def test_bytes_that_are_shared_too_often_are_refused(tmp_path):
    whole = {"shape": (250_000,), "stride": (1,), "length": 250_000}
    many = pickled(module(**{f"w{n}": tensor(**whole) for n in range(9)}))
    assert "share their bytes" in refusal(written(tmp_path / "a.pt", many, [("0", bytes(10**6))]))


def test_a_file_cut_anywhere_is_refused(archive, tmp_path):
    data, path = archive.read_bytes(), tmp_path / "cut.pt"
    for length in range(4, len(data), 97):
        path.write_bytes(data[:length])
        refusal(path)


def test_a_flipped_bit_gives_the_tensors_or_a_sentence(archive, tmp_path):
    data, path, draw = archive.read_bytes(), tmp_path / "flipped.pt", np.random.default_rng(0)
    for place in draw.integers(0, len(data), 400):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(draw.integers(8))
        path.write_bytes(flipped)
        try:
            with open_tensors(path) as file:
                file.read(file.shapes)
        except FileFormatError as error:
            assert "\n" not in str(error)


def test_a_flipped_bit_in_a_tensor_is_found_by_the_checksum(archive, tmp_path):
    with zipfile.ZipFile(archive) as made:
        place = next(r.header_offset for r in made.infolist() if "/data/" in r.filename and r.file_size >= 64)
    data = bytearray(archive.read_bytes())
    data[place + 200] ^= 1  # behind the record's name and its padding to 64 bytes
    (tmp_path / "a.pt").write_bytes(data)
    assert "damaged" in refusal(tmp_path / "a.pt")
