"""Learn Labels as a user meets it: folders and picks, what is written, what is refused; labels saved and loaded."""

import json
import shutil

import pytest
import torch

from clip_vae_lora.nodes.host.alone.place import HERE
from clip_vae_lora.nodes.labels import head_file
from clip_vae_lora.nodes.labels.head_file import SUFFIX, read_labels
from clip_vae_lora.nodes.labels.labelled import parse_picks

from ...support import tiny
from .conftest import SHAPES, drawn


def truth_of(name):
    return name.rpartition("/")[2].partition("_")[0]


def test_folders_are_classes_and_the_other_pictures_are_told_apart(learn):
    labels, answers, names, sheet, path, report = learn(ask=5)
    assert labels.learned.classes == SHAPES and report["unlabelled"] == 24
    assert {name: one["labels"] for name, one in report["classes"].items()} == dict.fromkeys(SHAPES, 3)
    assert report["held_out"]["of"] == 3 and report["zero_shot"]["of"] == 3
    found = json.loads(answers)["labels"]
    right = [label == truth_of(name) for name, label in found.items()]
    assert len(found) >= 24 and sum(right) / len(right) >= 0.9
    assert len(names.split("\n")) == 5 and all(name.endswith(" [output]") for name in names.split("\n"))
    assert sheet.shape[0] == 1 and path.endswith(SUFFIX)


def test_what_is_given_is_never_answered_otherwise(learn):
    _, answers, *_ = learn(held_out=0.5)
    found = json.loads(answers)
    assert len(found["given"]) == 12
    assert all(found["labels"][name] == truth_of(name) and found["probabilities"][name] == 1 for name in found["given"])


def test_picks_label_pictures_by_path_or_name_and_its_own_answers_are_picks_again(learn, folder):
    (folder / "rest").mkdir()
    for path in list(folder.glob("*/*.png")):
        path.rename(folder / "rest" / path.name)
    rest = sorted((folder / "rest").glob("*.png"))
    lines = [f"rest/{path.name} = {truth_of(path.name)}" for path in rest[::2]]
    lines += [f"shapes/rest/{path.name} [output] = {truth_of(path.name)}" for path in rest[1::2]]
    by_hand = learn("\n".join(SHAPES), picks="\n".join(lines))
    assert sum(one["labels"] for one in by_hand[-1]["classes"].values()) == 9
    again = learn("\n".join(SHAPES), picks=by_hand[1], held_out=0.0)
    assert sum(one["labels"] for one in again[-1]["classes"].values()) == len(json.loads(by_hand[1])["labels"])


def test_folders_below_another_one_are_the_classes(learn, folder):
    (folder / "known").mkdir()
    for shape in SHAPES:
        (folder / shape).rename(folder / "known" / shape)
    report = learn(labelled="known")[-1]
    assert list(report["classes"]) == list(SHAPES) and report["unlabelled"] == 24


@pytest.mark.parametrize("way", ["JSON", "folders", "tags"])
def test_what_is_sure_is_written_below_the_output_folder(learn, place, way):
    report = learn(write=way, filename_prefix="sorted/shapes")[-1]
    written = place.base / "output" / "sorted" / f"shapes_00001_.{'json' if way == 'JSON' else way}"
    assert report["written"] == str(written)
    if way == "JSON":
        assert set(json.loads(written.read_text(encoding="utf-8"))["labels"].values()) == set(SHAPES)
        return
    copies = sorted(written.rglob("*.png"))
    assert len(copies) == report["sure"] + 12
    if way == "folders":
        assert {path.parent.name for path in copies} == set(SHAPES)
    else:
        assert {path.with_suffix(".txt").read_text(encoding="utf-8").strip() for path in copies} == set(SHAPES)
    assert not [path for path in written.parent.iterdir() if path.name.startswith(".")]


def test_a_cancelled_writing_leaves_nothing(learn, place, monkeypatch):
    from clip_vae_lora.nodes.labels import writing

    def cancel(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "_copied", cancel)
    with pytest.raises(KeyboardInterrupt):
        learn(write="folders", filename_prefix="sorted/shapes")
    assert not list((place.base / "output" / "sorted").iterdir())


def test_a_class_that_is_no_name_of_a_folder_and_a_prefix_that_leads_out_write_nothing(learn, place, folder):
    picks = [f"circle/{path.name} = ../up" for path in (folder / "circle").glob("*.png")]
    (folder / "circle").rename(folder / "round")
    picks = "\n".join(picks).replace("circle/", "round/")
    with pytest.raises(ValueError, match="cannot be the name of a folder"):
        learn("../up\nsquare\nstar", picks=picks, write="folders", filename_prefix="sorted/shapes")
    with pytest.raises(ValueError, match="leads out of the folder"):
        learn("square\nstar", write="folders", filename_prefix="../shapes")
    assert not [path for path in (place.base / "output").rglob("*") if "up" in path.name]


def test_saved_labels_load_again_and_judge_the_same(learn, place, clip_model):
    for method in ("probe", "cache", "propagation"):
        labels, *_, path, _ = learn(method=method)
        name = f"{path.partition('/output/')[2]} [output]"
        loaded, report = place.node("CVL_LoadLabels").load(name)["result"]
        rows = torch.nn.functional.normalize(torch.randn(5, labels.made.width), dim=-1)
        assert torch.equal(loaded.learned.probabilities(rows), labels.learned.probabilities(rows))
        assert json.loads(report)["learned"]["classes"] == list(SHAPES) and loaded.made == labels.made


def test_the_nodes_that_take_labels_take_learned_ones(learn, place, clip_model):
    labels = learn(held_out=0.0)[0]
    image, shapes = drawn(8, seed=9)
    best = place.node("CVL_ZeroShotClassify").classify(clip_model, image, "a\nb", "a {}", head=labels)["result"][0]
    assert sum(one == shape for one, shape in zip(best.split("\n"), shapes)) >= 7
    tags = place.node("CVL_RankTags").rank(clip_model, image, "x, y", keep=1, head=labels)["result"][1]
    assert tags == best.split("\n")
    ranked = place.node("CVL_RankImages").rank(clip_model, image, "star", keep=0, head=labels)["result"]
    shares = json.loads(ranked[3])
    assert shares == sorted(shares, reverse=True) and best.split("\n")[ranked[4][0]] == "star"
    gate = place.node("CVL_ImageGate").route(clip_model, image, "star", 0.5, head=labels)["result"]
    passed = json.loads(gate[4])["passed"]
    assert passed == [place for place, one in enumerate(best.split("\n")) if one == "star"]


def test_a_question_is_answered_by_learned_classes_alone(learn, place, clip_model):
    labels, (image, _) = learn(held_out=0.0)[0], drawn(8, seed=9)
    node = place.node("CVL_VisualQuestion")
    answers, report, _, listed, sure = node.ask(clip_model, image, "what?", "star, circle", head=labels)["result"]
    told = json.loads(report)
    assert told["learned"]["classes"] == list(SHAPES) and "statements" not in told
    assert "the answers are judged by the labels that were learned: the question is not read" in told["notes"]
    assert set(listed) <= {"star", "circle"} and answers.split("\n") == listed
    for one, probability in zip(told["pictures"], sure):
        assert sum(one["probabilities"].values()) == pytest.approx(1.0, abs=2e-6)
        assert one["probabilities"][one["answer"]] == pytest.approx(probability) and probability >= 0.5
    best = place.node("CVL_ZeroShotClassify").classify(clip_model, image, "a", "a {}", head=labels)["result"][0]
    both = [(one, own) for one, own in zip(best.split("\n"), listed) if one in ("star", "circle")]
    assert both and all(one == own for one, own in both)
    with pytest.raises(ValueError, match="have no class 'dog', there are: circle, square, star"):
        node.ask(clip_model, image, "what?", "star, dog", head=labels)


def test_another_models_labels_and_index_are_refused_by_a_sentence(learn, place, clip_model):
    labels = learn()[0]
    tiny.clip_file(place.models / "clip_vision" / "clip.safetensors")
    other = place.node("CVL_LoadCLIPModel").load("clip.safetensors")["result"][0]
    image, _ = drawn(1)
    with pytest.raises(ValueError, match="these labels were learned with a CLIP of .*, but the model here is another"):
        place.node("CVL_ZeroShotClassify").classify(other, image, "a\nb", "a {}", head=labels)
    with pytest.raises(ValueError, match="this index was made with"):
        place.node("CVL_LearnLabels").learn(other, "shapes", "")
    with pytest.raises(ValueError, match="there is no index 'nowhere'"):
        place.node("CVL_LearnLabels").learn(clip_model, "nowhere", "")


def test_a_prompt_that_is_no_class_and_something_else_on_the_wire_are_sentences(learn, place, clip_model):
    labels, image = learn()[0], drawn(2)[0]
    with pytest.raises(ValueError, match="have no class 'a red star', there are: circle, square, star"):
        place.node("CVL_RankImages").rank(clip_model, image, "a red star", head=labels)
    with pytest.raises(ValueError, match="learned labels were expected at head, but a value of type int came"):
        place.node("CVL_RankTags").rank(clip_model, image, "x", head=5)


def test_labels_that_contradict_each_other_are_named(learn, folder):
    (first, *_) = sorted((folder / "circle").glob("*.png"))
    with pytest.raises(ValueError, match=f"{first.name} .* lies in the folder of circle and was picked as star"):
        learn(picks=f"circle/{first.name} = star")
    shutil.copy(first, folder / "star" / "copy.png")
    with pytest.raises(ValueError, match=f"contradict each other: .*{first.name}.* is circle and .*copy.png"):
        learn()
    with pytest.raises(ValueError, match="was picked as a and as b"):
        parse_picks("x.png = a\nx.png = b")


def test_picks_that_say_nothing_are_sentences(learn):
    with pytest.raises(ValueError, match="a line 'picture = class' was expected, but 'x.png' came"):
        learn(picks="x.png")
    with pytest.raises(ValueError, match="begin as JSON and are none"):
        learn(picks="{x")
    with pytest.raises(ValueError, match="the class 'moon' was picked .* has no line in classes"):
        learn("circle\nstar", picks="x.png = moon")
    notes = learn(picks="lost.png = star")[-1]["notes"]
    assert "picked, but not in the index: lost.png" in notes


def test_one_class_no_label_and_a_class_without_a_picture_are_sentences(learn):
    with pytest.raises(ValueError, match="at least two classes were expected"):
        learn("circle")
    with pytest.raises(ValueError, match="no labelled picture was found of moon"):
        learn("circle\nmoon")
    with pytest.raises(ValueError, match="no picture of the index has a label"):
        learn("a\nb")
    with pytest.raises(ValueError, match="zero-shot needs a text for each class"):
        learn(template="", method="zero-shot")
    with pytest.raises(ValueError, match="there is no template"):
        learn("circle => a {label}\nstar", template="")


def test_a_damaged_file_and_another_kind_of_file_are_sentences(learn, place):
    path = learn()[-2]
    content = open(path, "rb").read()
    with open(path, "wb") as file:
        file.write(content.replace(b'\\"kind\\": \\"linear\\"', b'\\"kind\\": \\"triang\\"'))
    with pytest.raises(ValueError, match="are damaged; learn them anew"):
        read_labels(path)
    tiny.clip_file(place.base / "other.safetensors")
    with pytest.raises(ValueError, match="were expected, but it holds something else"):
        read_labels(place.base / "other.safetensors")


def test_pictures_to_label_next_are_in_the_gallery(place, clip_model, learn):
    learn()
    answer = place.node("CVL_LearnLabels").learn(clip_model, "shapes", "", ask=3, method="probe")
    (group,) = answer["ui"]["cvl_gallery"]
    assert [one["name"] for one in group["pictures"]] == answer["result"][2].split("\n")
    assert all(one["label"].rstrip("?") in SHAPES for one in group["pictures"])


def test_the_bundled_labels_are_the_bundled_clips_and_know_its_shapes(place, clip_model):
    labels = place.node("CVL_LoadLabels").load(head_file.FILES.bundled)["result"][0]
    image, shapes = drawn(40, seed=11)
    best = place.node("CVL_ZeroShotClassify").classify(clip_model, image, "a", "a {}", head=labels)["result"][0]
    assert sum(one == shape for one, shape in zip(best.split("\n"), shapes)) >= 32


def test_pictures_that_were_deleted_or_not_yet_indexed_are_no_part_of_it(learn, folder, place, clip_model):
    learn(index="shapes")
    lost = next(folder.glob("*.png"))
    lost.unlink()
    answer = place.node("CVL_LearnLabels").learn(clip_model, "shapes", "", method="probe", write="tags", threshold=0.0)
    report = json.loads(answer["result"][-1])
    assert any(f"{lost.name} [output] is not there any more" in note for note in report["notes"])
    assert learn(index="shapes")[-1]["unlabelled"] == 23


def test_the_same_inputs_give_the_same_report_and_another_seed_holds_out_others(learn):
    def told(seed):
        report = learn(seed=seed, held_out=0.5)[-1]
        return {key: value for key, value in report.items() if key not in ("file", "written")}

    assert told(1) == told(1)
    assert len({json.dumps(told(seed)["to_label_next"]) for seed in range(4)}) > 1


def test_learning_can_be_cancelled_and_writes_nothing(learn, place, clip_model, monkeypatch):
    learn()
    before = sorted((place.base / "output" / "labels").iterdir())

    def cancel(done, total):
        raise KeyboardInterrupt

    monkeypatch.setattr(HERE, "on_step", cancel)
    with pytest.raises(KeyboardInterrupt):
        place.node("CVL_LearnLabels").learn(clip_model, "shapes", "", write="JSON")
    assert sorted((place.base / "output" / "labels").iterdir()) == before
