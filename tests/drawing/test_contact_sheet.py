"""Pictures on a sheet: as many lines as they need, thumbnails in their middle, rows that are empty or unreadable."""

import torch

from clip_vae_lora.drawing.contact_sheet import THUMB_PX, Cell, contact_sheet, thumbnail

RED = torch.tensor([200, 0, 0], dtype=torch.uint8)


def red(height: int, width: int) -> Cell:
    return Cell(RED.expand(height, width, 3).contiguous(), ("name", "0.5"))


def red_pixels(sheet) -> int:
    return int(((sheet - RED / 255).abs().amax(-1) < 1e-3).sum())


def test_every_picture_is_on_the_sheet_at_its_thumbnails_size():
    sheet = contact_sheet([("a row", [red(320, 160), red(40, 40)])])
    assert red_pixels(sheet) == THUMB_PX * THUMB_PX // 2 + 40 * 40
    assert sheet.shape[0] == 1 and sheet.shape[3] == 3 and 0 <= sheet.min() and sheet.max() <= 1


def test_a_row_goes_on_below_where_it_has_more_cells_than_columns():
    one, two = (contact_sheet([("", [red(8, 8)] * count)], columns=6) for count in (6, 7))
    assert one.shape[2] == two.shape[2] and two.shape[1] > one.shape[1] + THUMB_PX


def test_a_picture_that_could_not_be_read_has_its_place_and_its_words():
    there, empty = contact_sheet([("t", [Cell(None, ("gone.png",))])]), contact_sheet([("t", [])])
    assert there.shape[1] > empty.shape[1] + THUMB_PX and red_pixels(there) == 0


def test_words_of_any_length_and_alphabet_leave_the_sheets_size_alone():
    short, odd = (contact_sheet([(text, [Cell(RED.expand(4, 4, 3), (text,))])]) for text in ("a", "猫\n" * 300))
    assert short.shape == odd.shape


def test_no_rows_at_all_are_an_empty_sheet():
    sheet = contact_sheet([])
    assert (sheet == sheet[0, 0, 0]).all() and min(sheet.shape[1:3]) > 10


def test_a_thumbnail_is_never_larger_than_the_picture():
    assert thumbnail(torch.zeros(500, 250, 3, dtype=torch.uint8)).shape == (THUMB_PX, THUMB_PX // 2, 3)
    assert thumbnail(torch.zeros(5, 9, 3, dtype=torch.uint8)).shape == (5, 9, 3)
