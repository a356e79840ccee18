"""Pictures that nodes draw for their outputs have numbers, names and the user's own words on them, and no English: no
front end puts a picture into another language.
"""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import ImageDraw

from clip_vae_lora.nodes import NODE_CLASS_MAPPINGS
from clip_vae_lora.tests.nodes.conftest import place  # noqa: F401
from clip_vae_lora.tests.support.calls import Calls, prompt, texts, write_files
from clip_vae_lora.tests.support.words.chinese_names import english_words

DRAW = (
    "ZeroShotClassify VisualQuestion RankImages ImageTextSimilarity LoadLoRA LoRAInfo LoRAStack ResizeLoRA ExtractLoRA "
    "CompareLoRAs LatentDistribution CompareConditioning InspectTokens SearchImages FindDuplicates LearnLabels"
).split()
WRITTEN = f"{texts(9)} {prompt(2)} a red circle blur thing tag"
TYPED = {*english_words(WRITTEN), "text", "lora", "cos"}  # labels and prompts; a block, a kind


@pytest.fixture
def written(monkeypatch):
    """What is written on pictures from now on."""
    found, draw_text, draw_figure = [], ImageDraw.ImageDraw.text, FigureCanvasAgg.draw

    def text(self, xy, text, *more, **named):
        found.append(text)
        return draw_text(self, xy, text, *more, **named)

    def figure(self):
        found.extend(one.get_text() for one in self.figure.findobj(Text))
        return draw_figure(self)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    monkeypatch.setattr(FigureCanvasAgg, "draw", figure)
    return found


@pytest.mark.parametrize("name", DRAW)
def test_a_drawn_picture_has_no_words_but_the_users(place, written, name):  # noqa: F811
    write_files(place.models, place.base / "input")
    Calls(lambda one: NODE_CLASS_MAPPINGS[one](), place.base / "input")(name, 2)
    assert written
    assert not {text: words for text in written if (words := set(english_words(text)) - TYPED)}
