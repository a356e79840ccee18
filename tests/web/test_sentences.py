"""Chinese for every sentence that a user can see, and how web/ says them."""

import json
import re
import shutil
import subprocess

import pytest

from clip_vae_lora.tests.support import sentences

HOLE = re.compile(r"\{(\d*)(?::[^{}]*)?\}")
ENGLISH = re.compile(r"(?<![\w./-])[a-z]{2,}(?![\w./-])")
MENU_NAMES = set(  # of models, families, recipes, types, curves, ways of merging, formats, kinds, optimisers
    "sd1 sd2 sdxl sdxl_refiner sd3 flux flux2 sana playground fp32 fp16 bf16 gelu quick_gelu ties dare dare_ties della "
    "kohya diffusers peft lycoris onetrainer diffusers_0.2 diffusers_0.1 xlabs bfl cloneofsimo "
    "LoRA LoCon DoRA LoKr AdamW Adafactor Prodigy float32 bfloat16 FLYP CLIP-LoRA LiT ViT-B-32 ViT-B-16 ViT-L-14 "
    "ViT-L-14-336 ViT-B-32-256 ViT-B-16-plus-240 ViT-H-14 ViT-H-14-378 ViT-g-14 ViT-bigG-14".split()
)


@pytest.fixture(scope="module")
def say():
    """Says lines as web/sentences.mjs does, run by node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node, to run web/sentences.mjs alone")
    script = """
      const { translator } = await import(process.argv[1]);
      let given = "";
      for await (const part of process.stdin) given += part;
      const { table, lines } = JSON.parse(given);
      process.stdout.write(JSON.stringify(lines.map(translator(table))));
    """

    def said(lines: list[str], table: dict[str, str] | None = None) -> list[str]:
        given = json.dumps({"table": sentences.chinese() if table is None else table, "lines": lines})
        module = (sentences.ROOT / "web" / "sentences.mjs").as_uri()
        command = [node, "--input-type=module", "-e", script, module]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    return said


@pytest.fixture(scope="module")
def say_around():
    """Says lines as `translated` in web/words.mjs does, around parts that stay as they are."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node, to run web/sentences.mjs alone")
    script = """
      const { sayAround, translator } = await import(process.argv[1]);
      let given = "";
      for await (const part of process.stdin) given += part;
      const { table, lines, own } = JSON.parse(given), say = translator(table);
      process.stdout.write(JSON.stringify(lines.map((line) => sayAround(say, line, own))));
    """

    def said(lines: list[str], own: list[str]) -> list[str]:
        given = json.dumps({"table": sentences.chinese(), "lines": lines, "own": own})
        module = (sentences.ROOT / "web" / "sentences.mjs").as_uri()
        command = [node, "--input-type=module", "-e", script, module]
        return json.loads(subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout)

    return said


def test_every_sentence_has_chinese():
    assert not sentences.missing(), "python tests/support/sentences.py prints these as JSON"


def test_the_collector_sees_sentences_and_leaves_out_what_nobody_sees():
    import ast

    source = '''
"""A docstring that nobody sees."""
DESCRIPTION = "What nodeDefs has."
def f(name, count):
    """Another docstring here."""
    if "some words inside" in name:
        raise ValueError(f"a file was expected, but {name} came")
    note = "one part " + name + (" not used" if count else " all of it")
    log.debug("for the log alone")
    return {"tooltip": "words of a tooltip", "line": f"{count} tokens"}, re.compile("a pattern here")
class Node:
    def INPUT_TYPES(cls):
        return {"text": ("STRING", {"default": "a red circle", "placeholder": "write a prompt"})}
'''
    found = [line for line in sentences.templates(ast.parse(source)) if sentences.is_sentence(line)]
    assert found == [
        "a file was expected, but {} came",
        "one part {}{}",
        " not used",
        " all of it",
        "{} tokens",
        "write a prompt",
    ]


def test_the_collector_reads_what_web_says_itself(tmp_path):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "x.mjs").write_text(
        't("rows"); t(mark === "bad" ? "error" : "report"); cut("no"); t("a {}", f("b"))'
    )
    assert set(sentences.web_sentences(tmp_path)) == {"rows", "error", "report", "a {}"}


def test_the_tables_that_the_page_loads_are_all_that_there_are():
    source = (sentences.ROOT / "web" / "zh.mjs").read_text(encoding="utf-8")
    named = set(re.findall(r'"(\w+)"', source[source.index("[") : source.index("]")]))
    assert named | {"menus", "examples"} == {path.stem for path in (sentences.ROOT / "web" / "zh").glob("*.json")}


def test_every_value_of_a_menu_in_words_has_chinese():
    menus = json.loads((sentences.ROOT / "web" / "zh" / "menus.json").read_text(encoding="utf-8"))
    schema = json.loads((sentences.ROOT / "tests" / "nodes" / "schema.json").read_text(encoding="utf-8"))
    values = {value for node in schema.values() for value in _options(node)}
    assert "keep the best one" in values
    assert not {value for value in values if value not in menus and value not in MENU_NAMES and "/" not in value}
    assert all(re.search("[一-鿿]", menus[value]) for value in menus if " " in value and not value.isupper())


def _options(found: object):
    if isinstance(found, dict):
        for key, value in found.items():
            yield from (value if key == "options" and isinstance(value, list) else _options(value))
    elif isinstance(found, list):
        for value in found:
            yield from _options(value)


TABLE = {
    "{} of {} modules": "{1} 个模块中的 {0} 个",
    "{}: {}, strength {}": "{}：{}，强度 {}",
    "it is empty": "为空",
    "cannot be read": "无法读取",
    'there is no "{}"': "没有“{}”",
    "{} token{}": "{} 个 token",
    "{} for {}": "{}，用于 {}",
    "a cat": "猫",
}


@pytest.mark.parametrize(
    ("line", "there"),
    [
        ("it is empty", "为空"),
        ("  it is empty", "  为空"),
        ("3 of 7 modules", "7 个模块中的 3 个"),
        ("a.pt: 3 of 7 modules, strength 1", "a.pt：7 个模块中的 3 个，强度 1"),
        ("a.pt: cannot be read; b.pt: it is empty", "a.pt：无法读取；b.pt：为空"),
        ("⚠ it is empty", "⚠ 为空"),
        ("it is empty\n3 of 7 modules", "为空\n7 个模块中的 3 个"),
        ("2 tokens", "2 个 token"),
        ("1 token", "1 个 token"),
        ('there is no "a cat"', "没有“a cat”"),  # what is quoted is a user's own
        ("a prompt for something", "a prompt for something"),  # "for" alone says too little
        ("salt and pepper", "salt and pepper"),
        ("", ""),
    ],
)
def test_lines_are_said_by_templates(say, line, there):
    assert say([line], TABLE) == [there]


@pytest.mark.parametrize(
    ("line", "there"),
    [
        ("decoded to 4 of 64 x 64 px", "已解码为 4 张 64 x 64 px"),
        (
            "embedding cat not used: there is no embedding called cat; the embeddings folder is empty",
            "未使用嵌入 cat：没有名为 cat 的嵌入；嵌入文件夹为空",
        ),
        (
            'these words would have another weight in the other dialect: "[a cat]" 1 here and 0.9 in A1111, '
            '"dog" 1 here and 1.1 in A1111',
            '这些词在另一种语法中权重不同："[a cat]" 此处为 1，在 A1111 中为 0.9，"dog" 此处为 1，在 A1111 中为 1.1',
        ),
        ("1 picture, 256 x 256 px, seen at 48 x 48 px", "1 张图像，256 x 256 px，实际看到 48 x 48 px"),
        ("by block: text 8, vision 17", "按区块：文本 8，图像 17"),
        (
            "7 % alike on average over 77 tokens, 6 % at the least (token 1); summary (pooled) vector: 73.6 % alike",
            "平均相似 7 %（77 个 token），最低 6 %（token 1）；池化向量：相似 73.6 %",
        ),
        (
            "at worst 3 %: text encoder, layer 0, attention value, rank 64 to 3",
            "最多 3 %：文本编码器，层 0，注意力 V，秩 64 到 3",
        ),
        ("entries of the header: 1 new (a), 2 changed (b, c)", "文件头的条目：新增 1 个（a），更改 2 个（b, c）"),
        (
            "b.pt: a.pt cut from rank 3 to ranks 1 to 3, 0.07 MB to 0.05 MB, kohya, fp16",
            "b.pt：a.pt 从秩 3裁到秩 1 到 3，0.07 MB 到 0.05 MB，kohya, fp16",
        ),
        (
            'these words would have another weight in the other dialect: "a" 1 here and 2 in ComfyUI, '
            '"b" 3 here and 4 in A1111',
            '这些词在另一种语法中权重不同："a" 此处为 1，在 ComfyUI 中为 2，"b" 此处为 3，在 A1111 中为 4',
        ),
        ("MODEL 12, CLIP model 1", "MODEL 12，CLIP 模型 1"),
        ("this pack's small CLIP", "本包的小型 CLIP"),
        ("made for a CLIP of 48 px and 64 dimensions (ad95)", "为 48 px、64 维的 CLIP 而制（ad95）"),
        (
            "loss on 2 held-out pictures: 0.5 before, 0.4 after (-20.0 %)",
            "2 张留出的图片上的损失：之前 0.5，之后 0.4（-20.0 %）",
        ),
        ("heart 8, striped 17", "heart 8, striped 17"),  # a user's own
    ],
)
def test_single_words_beside_numbers_are_said_too(say, line, there):
    assert say([line]) == [there]


def test_every_sentence_of_the_server_is_said_in_chinese_whatever_fills_it(say):
    known, there_are = sentences.chinese(), sentences.python_sentences()
    wanted = [english for english, there in known.items() if english in there_are and there != english]
    filled = [HOLE.sub("X7", english) for english in wanted]
    assert not [line for line, there in zip(filled, say(filled), strict=True) if there == line and _words(line)]
    whole = [line for line, english in zip(filled, wanted, strict=True) if line == english and _words(line)]
    behind = say([f"✖ some_file.safetensors: {line}" for line in whole])
    assert behind == [f"✖ some_file.safetensors：{known[line]}" for line in whole]


def _words(line: str) -> bool:
    return len(ENGLISH.findall(line)) > 1


def test_a_users_own_label_stays_and_a_count_of_what_is_left_out_does_not(say):
    ranked = ["1. striped heart: 62.1%", "striped heart: 62.1%, text: 3.1%", "text: 62.1%"]
    assert say(ranked) == ranked
    assert say(["named more than once, counted once: striped heart"]) == ["重复列出、只计一次：striped heart"]
    assert say(["named more than once, counted once: a cat, a dog and 4 more"]) == [
        "重复列出、只计一次：a cat, a dog，另有 4 个"
    ]
    assert say(["striped heart, 64 x 64 px", "4 more"]) == ["条纹心形，64 x 64 px", "另有 4 个"]


LABEL = "not used"  # a sentence of the table, and here a user's own words


@pytest.mark.parametrize(
    ("line", "there"),
    [
        (f"{LABEL}: 0.312", f"{LABEL}: 0.312"),
        (f"2. {LABEL}: -0.012", f"2. {LABEL}: -0.012"),
        (f"#0: {LABEL} (0.312)", f"#0: {LABEL} (0.312)"),
        (f"#0: {LABEL}, 62.1%", f"#0: {LABEL}, 62.1%"),
        (f"{LABEL}: 62.1%, cosine 0.312, leads by 3.1%", f"{LABEL}: 62.1%，余弦 0.312，领先 3.1%"),
        (
            f"none of these (nearest: {LABEL}, 62.1%, cosine 0.312, leads by 3.1%)",
            f"都不是（最接近：{LABEL}，62.1%，余弦 0.312，领先 3.1%）",
        ),
        (f"{LABEL}: 3", "未使用：3"),  # a count of ours
        ("#0: no answer, 0.0%", "#0：没有答案，0.0%"),
        ("#0: nearest is #1 (0.312)", "#0：最接近 #1 (0.312)"),
        ("#0: nearest is #1 of image_b (0.312)", "#0：最接近 第二批图像的 #1（0.312）"),
    ],
)
def test_a_users_own_label_stays_beside_a_cosine_too(say, line, there):
    assert say([LABEL]) == ["未使用"]
    assert say([line]) == [there]


def test_what_stands_in_menus_alone_is_missing_but_for_the_example_pictures(tmp_path):
    menus = json.loads((sentences.ROOT / "web" / "zh" / "menus.json").read_text(encoding="utf-8"))
    assert sentences.PICTURES <= menus.keys()
    own = menus.keys() - sentences.chinese().keys() - sentences.PICTURES
    one = min(value for value in own if re.search("[a-z]{3,} [a-z]{3,}", value))
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / "x.py").write_text(f'LINES = ["{one}", "red circle"]')
    assert sentences.missing(tmp_path) == {one: "nodes/x.py"}


def test_words_of_a_file_stay_as_they_are(say_around):
    fact = "ss_training_comment: no LoRA is chosen: what is connected is passed on as it is"
    trigger = "no trigger words are named"
    (said, fact_said, alone) = say_around(
        [f"trigger words: {trigger} (the commonest tags of its training)", fact, "trigger words: a"],
        [trigger, fact, "a"],
    )
    assert trigger in said and "commonest" not in said and "trigger words: " not in said
    assert fact_said == fact
    assert alone.endswith("a") and "trigger words" not in alone
