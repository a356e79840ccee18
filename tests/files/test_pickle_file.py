"""PyTorch files: their wrappers, and that nothing in a hostile one is ever executed."""

import argparse
import collections
import io
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

import clip_vae_lora.headless.checkout as checkout
from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.tensors import open_tensors

W, V = torch.arange(6.0).reshape(2, 3), torch.ones(2, dtype=torch.float16)


class Code:
    """Runs code when unpickled: leaves a file behind."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.fixture(params=[True, False], ids=["zip", "legacy"])
def save(request, tmp_path):
    def save(document, name="a.pt"):
        torch.save(document, tmp_path / name, _use_new_zipfile_serialization=request.param)
        return tmp_path / name

    return save


def refusal(path) -> str:
    with pytest.raises(FileFormatError) as caught:
        open_tensors(path).close()
    text = str(caught.value)
    assert text.startswith(path.name + ": ") and "\n" not in text and "\x1b" not in text
    assert "weights_only" not in text and "torch.load" not in text
    return text


@pytest.mark.parametrize(
    "document, names",
    [
        ({"w": W, "v": V}, ["w", "v"]),
        (collections.OrderedDict(w=W, v=V), ["w", "v"]),
        ({"state_dict": {"w": W, "v": V}, "epoch": 3, "optimizer": {"state": {}}}, ["w", "v"]),
        ({"state_dict": {"module.w": W, "module.v": V}}, ["w", "v"]),
        ({"anything": {"w": W, "v": V}}, ["w", "v"]),
        ({"model": {"state_dict": {"w": W, "v": V}}, "args": None}, ["w", "v"]),
        ({"params_ema": {"w": W, "v": V}, "params": {"w": W * 2, "v": V}}, ["w", "v"]),
        ({"w": torch.nn.Parameter(W), "v": V, "version": 3}, ["w", "v"]),
        ({"string_to_param": {"*": W}, "string_to_token": {"*": 265}, "v": V, "name": "x"}, ["string_to_param.*", "v"]),
        ([W, V], ["0", "1"]),
        ([{"a": W}, {"a": V}], ["0.a", "1.a"]),
        ({"w": W.T.contiguous().T, "v": V.expand(2)}, ["w", "v"]),
    ],
)
def test_the_tensors_are_found_in_every_usual_wrapper(save, document, names):
    with open_tensors(save(document)) as file:
        read = file.read(names)
        assert set(file.shapes) == set(names)
    assert [read[name].tolist() for name in names] == [W.tolist(), V.tolist()]
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in read.values())


def parameter_dict(old: bool) -> torch.nn.ParameterDict:
    """As torch writes it today, or as torch 1.11 did, before it had `_keys`."""
    made = torch.nn.ParameterDict({"*": torch.nn.Parameter(W)})
    if old:
        state = {name: made.__dict__[name] for name in ("training", "_parameters", "_buffers", "_modules")}
        made.__dict__ = state | {"_backward_hooks": collections.OrderedDict()}
    return made


@pytest.mark.parametrize("old", [True, False])
def test_a_parameter_dict_gives_its_tensors_through_an_inert_stub(tmp_path, old):
    torch.save({"string_to_token": {"*": torch.tensor(265)}, "string_to_param": parameter_dict(old)}, tmp_path / "a.pt")
    with open_tensors(tmp_path / "a.pt") as file:
        assert file.read(["string_to_param.*"])["string_to_param.*"].equal(W)


def test_a_parameter_dict_in_the_oldest_kind_of_file_is_refused_in_a_sentence(tmp_path):
    torch.save({"string_to_param": parameter_dict(True)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert "oldest kind" in refusal(tmp_path / "a.pt")


def test_code_hidden_in_a_parameter_dict_is_not_run(tmp_path):
    mark = tmp_path / "it-ran"
    hidden = parameter_dict(True)
    hidden.__dict__["_backward_hooks"] = {0: Code(mark)}
    torch.save({"string_to_param": hidden}, tmp_path / "a.pt")
    assert "mkdir" in refusal(tmp_path / "a.pt") and not mark.exists()


@pytest.mark.parametrize("state", [None, {}, {"_parameters": 3}, {"_parameters": {"*": "text"}}, [1, 2]])
def test_a_parameter_dict_with_a_made_up_state_has_no_tensors(tmp_path, state):
    class Liar:
        def __reduce__(self):
            return torch.nn.ParameterDict, (), state

    torch.save({"string_to_param": Liar()}, tmp_path / "a.pt")
    assert "without one tensor" in refusal(tmp_path / "a.pt")


def test_what_is_no_tensor_is_reported_and_texts_become_metadata(save):
    with open_tensors(save({"state_dict": {"w": W}, "epoch": 3, "optimizer": {"lr": 1}, "name": "cat"})) as file:
        assert file.metadata == {"epoch": "3", "name": "cat"} and file.ignored == ("optimizer",)


def test_numpy_numbers_beside_the_tensors_do_no_harm(save):
    with open_tensors(save({"state_dict": {"w": W}, "best": np.float64(0.5)})) as file:
        assert file.read(["w"])["w"].equal(W)


def test_a_pickle_with_code_in_it_is_refused_and_nothing_is_executed(save, tmp_path):
    mark = tmp_path / "it-ran"
    for document in ({"w": W, "x": Code(mark)}, {"state_dict": {"w": W}, "callbacks": [Code(mark)]}, Code(mark)):
        text = refusal(save(document))
        assert "mkdir" in text and "nothing was run" in text
        assert not mark.exists()
    pickle.loads(pickle.dumps(Code(mark)))  # the trap itself works
    assert mark.exists()


@pytest.mark.parametrize(
    "document, said",
    [
        (argparse.Namespace(a=1), "argparse.Namespace"),
        (torch.nn.Linear(2, 2), "Linear"),
        ({"w": collections.defaultdict(list)}, "defaultdict"),
        ({"epoch": 3}, "without one tensor"),
        ({}, "without one tensor"),
        ({"w": W.to_sparse()}, "sparse"),
        ({"w": torch.ones(1).expand(10**6)}, "made to mislead"),
    ],
)
def test_what_holds_more_or_less_than_tensors_is_refused_with_its_name(save, document, said):
    assert said in refusal(save(document))


def test_nan_in_a_pickle_is_refused_when_read(save):
    with open_tensors(save({"w": W / 0})) as file, pytest.raises(FileFormatError, match="'w' has NaN"):
        file.read(["w"])


def test_a_file_cut_anywhere_is_refused(save, tmp_path):
    data = save({"w": W, "v": V}).read_bytes()
    path = tmp_path / "cut.pt"
    for length in [*range(0, 64), *range(64, len(data) - 1, max(1, len(data) // 60)), len(data) - 1]:
        path.write_bytes(data[:length])
        refusal(path)


def test_flipped_bytes_never_raise_anything_but_a_sentence(save, tmp_path):
    data = bytearray(save({"w": W, "v": V}).read_bytes())
    path = tmp_path / "flipped.pt"
    generator = np.random.default_rng(0)
    for place in generator.integers(0, len(data), 150):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(flipped)
        try:
            with open_tensors(path) as file:
                file.read(file.shapes)
        except FileFormatError as error:
            assert "\n" not in str(error) and "weights_only" not in str(error)


def test_a_zip_bomb_is_refused_before_anything_is_unpacked(tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50 * 2**20))
    assert path.stat().st_size < 10**5 and "zip bomb" in refusal(path)


def test_a_compressed_archive_is_refused_even_when_it_does_not_grow(tmp_path):
    torch.save({"w": torch.rand(100)}, tmp_path / "stored.pt")
    with (
        zipfile.ZipFile(tmp_path / "stored.pt") as stored,
        zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for record in stored.infolist():
            packed.writestr(record.filename, stored.read(record))
        packed.writestr("stored/data/pad", os.urandom(10**4))
    assert "compressed" in refusal(tmp_path / "packed.pt")


def test_zip_archives_of_other_kinds_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", w=W.numpy())
    assert "npz" in refusal(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.pt", "w") as archive:
        archive.writestr("hello.txt", "hello")
    assert "zip archive without tensors" in refusal(tmp_path / "b.pt")
    with zipfile.ZipFile(tmp_path / "c.pt", "w") as archive:
        archive.writestr("archive/data.pkl", "x")
        archive.writestr("../../etc/evil", "x")
    assert "more than one folder" in refusal(tmp_path / "c.pt")


def test_a_bare_pickle_is_refused_unread(tmp_path):
    for protocol in (2, 3, 4, 5):
        path = tmp_path / "a.bin"
        path.write_bytes(pickle.dumps(Code(tmp_path / "ran"), protocol))
        assert "bare pickle" in refusal(path)
    assert not (tmp_path / "ran").exists()


_MEASURED = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("checkout", sys.argv[1])
checkout = importlib.util.module_from_spec(spec)
spec.loader.exec_module(checkout)
checkout.bind()
from clip_vae_lora.files.tensors import open_tensors
peaks = []
for path in sys.argv[2:]:
    with open_tensors(path) as file:
        file.read(["w"])
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    peaks.append(int(lines["VmHWM"].split()[0]) - int(lines["RssFile"].split()[0]))
print(peaks[1] - peaks[0])
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the memory of a process as Linux tells it")
def test_the_data_of_a_zip_are_not_loaded_when_it_is_opened(tmp_path):
    """In a process of its own, because what counts is the highest memory it ever had (getrusage would inherit ours)."""
    torch.save({"w": W}, tmp_path / "small.pt")
    torch.save({"big": torch.zeros(200_000_000, dtype=torch.uint8), "w": W}, tmp_path / "big.pt")
    arguments = [checkout.__file__, str(tmp_path / "small.pt"), str(tmp_path / "big.pt")]
    result = subprocess.run([sys.executable, "-c", _MEASURED, *arguments], capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 20 * 1024  # kilobytes; the big tensor has 195,313


def test_an_error_survives_being_pickled_between_processes():
    error = FileFormatError("/a/b.pt", "is bad")
    again = pickle.load(io.BytesIO(pickle.dumps(error)))
    assert str(again) == str(error) == "b.pt: is bad" and again.path == error.path
