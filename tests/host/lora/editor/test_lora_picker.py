"""The menu of LoRAs and the words of one, in a real browser on a real server.

Needs COMFYUI_PATH (see serving.py for a server in another Python), playwright, and a Chromium.
"""

from ....support.loras.editor import LIST, WAIT_MS, expect_list, part, show, with_line
from ....support.servers.canvas import playwright


def add(page):
    page.locator(".cvl-add:visible").click()
    playwright.expect(page.locator(".cvl-option").first).to_be_visible(timeout=WAIT_MS)


def test_the_menu_has_folders_and_several_are_added_in_one_visit(page):
    add(page)
    options = page.locator(".cvl-option")
    texts = ["▸ old 1", "▸ people 1", "▸ bundled (the example of this pack) 1", "style.safetensors"]
    playwright.expect(options).to_have_text([*texts, "zebra stripes.safetensors"])
    page.locator(".cvl-folder", has_text="people").click()
    playwright.expect(options).to_have_text(["anna.safetensors"])
    options.click()
    expect_list(page, LIST + "\npeople/anna.safetensors : 1")
    playwright.expect(options).to_have_class("cvl-option cvl-added")
    page.locator(".cvl-crumb", has_text="all LoRAs").click()
    options.filter(has_text="zebra").last.click()
    expect_list(page, LIST + "\npeople/anna.safetensors : 1\nzebra stripes.safetensors : 1")
    page.locator(".cvl-done").click()
    playwright.expect(options).to_have_count(0)
    add(page)  # the newest first
    playwright.expect(page.locator(".cvl-group").first).to_have_text("used last")
    playwright.expect(options.nth(0)).to_have_text("zebra stripes.safetensors")
    playwright.expect(options.nth(1)).to_have_text("people/anna.safetensors")


def test_a_search_goes_over_all_folders_and_a_preview_is_shown_of_what_is_looked_at(page):
    add(page)
    page.keyboard.type("anna")
    options = page.locator(".cvl-option")
    playwright.expect(options).to_have_text(["old/anna.safetensors", "people/anna.safetensors"])
    options.nth(1).hover()
    picture = page.locator(".cvl-card img")
    playwright.expect(picture).to_be_visible(timeout=WAIT_MS)
    page.wait_for_function("document.querySelector('.cvl-card img')?.naturalHeight > 0")
    assert page.evaluate("document.querySelector('.cvl-card img').naturalHeight") <= 320
    options.nth(0).hover()
    playwright.expect(page.locator(".cvl-card .cvl-none")).to_be_visible(timeout=WAIT_MS)


def test_two_thousand_names_are_a_menu_at_once_and_no_file_is_asked_about(page):
    names = [f"many/lora {number:04}.safetensors" for number in range(2000)]
    page.route("**/clip_vae_lora/loras", lambda route: route.fulfill(json={"menu": names}))
    asked = []
    page.on("request", lambda request: "lora_" in request.url and asked.append(request.url))
    add(page)
    page.locator(".cvl-folder", has_text="many").click()
    playwright.expect(page.locator(".cvl-option")).to_have_count(200)
    page.keyboard.type("1999")
    playwright.expect(page.locator(".cvl-option")).to_have_text(["many/lora 1999.safetensors"])
    assert len([url for url in asked if "lora_header" in url]) <= 3  # of those that were looked at


def test_words_are_chosen_in_the_row_and_kept_in_its_line(page):
    playwright.expect(part(page, 1, "words")).to_be_enabled(timeout=WAIT_MS)
    part(page, 1, "words").click()
    chip = page.locator(".cvl-chip", has_text="anna woman")
    playwright.expect(chip).to_have_attribute("aria-pressed", "false", timeout=WAIT_MS)
    chip.click()
    expect_list(page, with_line(1, "people/anna : 0.8 # words: anna woman # mine"))
    page.locator(".cvl-own-words").fill("red hat, sks")
    page.keyboard.press("Enter")
    expect_list(page, with_line(1, "people/anna : 0.8 # words: anna woman, red hat, sks # mine"))
    page.locator(".cvl-chip", has_text="anna woman").click()
    expect_list(page, with_line(1, "people/anna : 0.8 # words: red hat, sks # mine"))
    page.keyboard.press("Escape")
    playwright.expect(part(page, 1, "chosen")).to_have_text("words: red hat, sks")
    part(page, 1, "chosen").click()
    page.locator(".cvl-reset").click()
    expect_list(page, LIST)


def test_a_list_of_an_older_version_is_left_as_it_is(page):
    old = "style : 1 # words of mine\n# words: a comment of its own"
    show(page, old)
    playwright.expect(part(page, 1, "text")).to_have_value("# words: a comment of its own")
    expect_list(page, old)


def test_an_edited_line_means_its_file_before_the_server_has_answered_again(page):
    playwright.expect(part(page, 1, "words")).to_be_enabled(timeout=WAIT_MS)
    page.route("**/clip_vae_lora/loras", lambda route: None)  # no answer from here on
    part(page, 1, "model+").click()
    expect_list(page, with_line(1, "people/anna : 0.85 # mine"))
    playwright.expect(part(page, 1, "words")).to_be_enabled()
    part(page, 1, "words").click()
    playwright.expect(page.locator(".cvl-chip", has_text="anna woman")).to_be_visible(timeout=WAIT_MS)
