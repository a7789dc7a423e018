"""The page at ``/``, as somebody with a photo uses it."""

from __future__ import annotations

import base64
import io
import json
import threading
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.pictures import noise, plain
from tests.tiny import LABELS

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from tests.web.browser import Browser

SHOWN = "#map:not([hidden])"
ORIENTATION = 0x0112  # EXIF's tag


def choose(browser: Browser, path: Path) -> None:
    """Pick a file, as the file chooser would hand it over."""
    browser.one("#file").send_keys(str(path))


def explained(browser: Browser, emotion: str) -> None:
    """Wait until the heat map for an emotion is on the photo."""
    browser.wait(lambda: browser.seen("#controls") and browser.one("#explained").text == emotion)
    browser.wait(
        lambda: browser.script(
            "const m = document.getElementById('map'); return m.complete && m.naturalWidth"
        )
    )


def order(browser: Browser) -> list[str | None]:
    return [button.get_attribute("data-emotion") for button in browser.all("#bars button")]


def saved(browser: Browser, selector: str, name: str) -> bytes:
    """Click a link and read the file that it saves."""
    path = browser.downloads / name
    path.unlink(missing_ok=True)
    browser.one(selector).click()
    browser.wait(path.exists)
    return path.read_bytes()


def test_a_photo_gets_bars_and_a_heat_map(browser: Browser, photo: Path) -> None:
    choose(browser, photo)
    explained(browser, "joy")
    assert browser.one("#dominant").text.startswith("Above all joy, ")
    assert sorted(map(str, order(browser))) == sorted(LABELS)
    shares = [float(each.text.removesuffix(" %")) for each in browser.all("#bars .share")]
    assert shares == sorted(shares, reverse=True)
    assert abs(sum(shares) - 100) < 2
    widths = [each.size["width"] for each in browser.all("#bars .fill")]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 20
    assert browser.one(SHOWN).size == browser.one("#photo").size
    assert "joy" in str(browser.one("#map").get_attribute("alt"))
    assert not browser.seen("#refusal, #working")


def test_the_slider_and_the_tick_change_the_heat_map(browser: Browser, photo: Path) -> None:
    choose(browser, photo)
    explained(browser, "joy")
    slider = browser.one("#opacity")
    slider.send_keys(*[Keys.ARROW_LEFT] * 4)
    assert browser.one("#map").value_of_css_property("opacity") == "0.8"
    assert browser.one("#strength").text == "80 %"
    browser.one("#shown").click()
    assert not browser.seen("#map")
    assert not slider.is_enabled()
    browser.one("#shown").click()
    assert browser.one("#map").value_of_css_property("opacity") == "0.8"


def test_another_emotion_another_map(browser: Browser, photo: Path) -> None:
    choose(browser, photo)
    explained(browser, "joy")
    first = browser.one("#map").get_attribute("src")
    browser.one("[data-emotion=anger]").click()
    explained(browser, "anger")
    assert browser.one("#map").get_attribute("src") != first
    assert [b.get_attribute("data-emotion") for b in browser.all("#bars [aria-pressed=true]")] == ["anger"]
    browser.one("[data-emotion=joy]").click()  # made already, so shown at once and not made again
    assert browser.one("#map").get_attribute("src") == first


def test_thorough_maps_and_a_fixed_order(browser: Browser, photo: Path) -> None:
    choose(browser, photo)
    explained(browser, "joy")
    assert order(browser)[0] == "joy"
    browser.one("[name=order][value=fixed]").click()
    assert order(browser) == list(LABELS)
    first = browser.one("#map").get_attribute("src")
    browser.one("[name=quality][value=thorough]").click()
    browser.wait(lambda: browser.seen("#controls") and browser.one("#map").get_attribute("src") != first)
    explained(browser, "joy")
    assert "thorough" in str(browser.one("#said").get_attribute("textContent"))


def test_all_emotions_at_once(browser: Browser, photo: Path) -> None:
    choose(browser, photo)
    explained(browser, "joy")
    browser.one("#all").click()
    browser.wait_for("#sheet")
    browser.wait(
        lambda: browser.script("return document.getElementById('sheet-picture').naturalWidth") > 3 * 320
    )
    alt = str(browser.one("#sheet-picture").get_attribute("alt"))
    assert all(label in alt for label in LABELS)
    assert browser.seen(SHOWN)  # the map that was there stays
    browser.one("#close-sheet").click()
    assert not browser.seen("#sheet")
    assert browser.driver.switch_to.active_element.get_attribute("id") == "all"


def test_a_file_that_is_no_picture_leaves_the_sheet(browser: Browser, tmp_path: Path, photo: Path) -> None:
    text = tmp_path / "poem.jpg"
    text.write_text("roses are red", "utf-8")
    choose(browser, photo)
    explained(browser, "joy")
    browser.one("#all").click()
    browser.wait_for("#sheet")
    title = browser.one("#sheet-title").text
    choose(browser, text)
    browser.wait_for("#refusal")
    browser.wait_for("#sheet")
    browser.wait(lambda: browser.script("return document.getElementById('sheet-picture').naturalWidth"))
    assert browser.one("#sheet-title").text == title
    assert str(browser.one("#save-sheet").get_attribute("download")).startswith(photo.stem)
    choose(browser, photo)  # and with the next photo it goes
    explained(browser, "joy")
    assert not browser.seen("#sheet")


def test_a_map_that_gave_way_to_all_emotions_is_made_after_them(browser: Browser, photo: Path) -> None:
    browser.script(  # the first map would take for ever
        "const real = window.fetch; let first = true;"
        "window.fetch = (path, asked) => {"
        "  if (!path.startsWith('explain') || !first) return real(path, asked);"
        "  first = false;"
        "  return new Promise((_, reject) => asked.signal.addEventListener('abort',"
        "    () => reject(new DOMException('', 'AbortError'))));"
        "};"
    )
    choose(browser, photo)
    browser.wait_for("#working")
    browser.wait(lambda: browser.script("return document.getElementById('bars').children.length"))
    browser.one("#all").click()
    browser.wait_for("#sheet")
    explained(browser, "joy")
    assert browser.seen("#sheet")


def test_all_emotions_are_asked_for_once_however_often_they_are_clicked(
    browser: Browser, photo: Path
) -> None:
    browser.script(  # every map waits until it may go on
        "const real = window.fetch;"
        "window.asked = [];"
        "const go = new Promise((resolve) => (window.go = resolve));"
        "window.fetch = async (path, asked) => {"
        "  if (!path.startsWith('explain')) return real(path, asked);"
        "  window.asked.push(path);"
        "  await new Promise((resolve, reject) => {"
        "    go.then(resolve);"
        "    asked.signal.addEventListener('abort', () => reject(new DOMException('', 'AbortError')));"
        "  });"
        "  return real(path, asked);"
        "};"
    )
    choose(browser, photo)
    browser.wait(lambda: browser.script("return document.getElementById('bars').children.length"))
    browser.wait(lambda: browser.script("return window.asked.length"))
    for _ in range(2):
        browser.one("#all").click()
    browser.one("[value=thorough]").click()  # another sheet, which the same map waits for
    browser.one("#all").click()
    browser.script("window.go()")
    browser.wait_for("#sheet")
    assert browser.one("#sheet-title").text == "All emotions at once, thorough"
    explained(browser, "joy")
    asked = [str(path) for path in browser.script("return window.asked")]
    assert [path.partition("view=")[2][:5] for path in asked] == ["", "sheet", "sheet", ""]


def test_a_map_that_is_there_already_leaves_the_sheet_in_the_making(browser: Browser, photo: Path) -> None:
    choose(browser, photo)
    explained(browser, "joy")
    browser.one("[data-emotion=anger]").click()
    explained(browser, "anger")
    browser.script(
        "const real = window.fetch;"
        "const go = new Promise((resolve) => (window.go = resolve));"
        "window.fetch = async (path, asked) => {"
        "  await go;"
        "  asked.signal.throwIfAborted();"
        "  return real(path, asked);"
        "};"
    )
    browser.one("#all").click()
    browser.one("[data-emotion=joy]").click()
    explained(browser, "joy")
    browser.script("window.go()")
    browser.wait_for("#sheet")
    assert browser.one("#sheet-title").text == "All emotions at once, quick"


@pytest.mark.parametrize(("imbalance", "rough"), [("0.2", True), ("0.04", False)])
def test_a_rough_map_is_told(browser: Browser, photo: Path, imbalance: str, rough: bool) -> None:
    browser.script(
        "const real = window.fetch;"
        "window.fetch = async (path, asked) => {"
        "  const answer = await real(path, asked);"
        "  if (!path.startsWith('explain')) return answer;"
        f"  const headers = {{ 'X-DeepEmotion-Imbalance': '{imbalance}', 'X-DeepEmotion-Evidence': 'yes' }};"
        "  return new Response(await answer.blob(), { headers });"
        "};"
    )
    choose(browser, photo)
    explained(browser, "joy")
    assert browser.seen("#rough") is rough


def test_on_a_phone_the_map_comes_into_view(browser: Browser, photo: Path) -> None:
    browser.look(390, 600, touch=True)
    choose(browser, photo)
    explained(browser, "joy")
    button = browser.one("[data-emotion=anger]")
    browser.script("document.querySelector('[data-emotion=anger]').scrollIntoView({block: 'start'})")
    top = "return document.getElementById('stage').getBoundingClientRect().top"
    assert browser.script(top) < 0
    button.click()
    explained(browser, "anger")
    assert browser.script(top) >= 0


@pytest.mark.parametrize(
    ("because", "said"),
    [("flat", "No emotion stands out"), ("unfamiliar", "unlike those"), (None, "")],
    ids=["flat", "unfamiliar", "sure"],
)
def test_an_answer_that_abstains(browser: Browser, photo: Path, because: str | None, said: str) -> None:
    fields = {
        "abstained": because is not None,
        "abstained_because": because,
        "valence": -0.25 if because else None,
    }
    browser.script(  # the service's own answer, with the fields that it has for a checkpoint that can abstain
        "const [fields] = arguments, real = window.fetch;"
        "window.fetch = async (path, ...rest) => {"
        "  const response = await real(path, ...rest);"
        "  if (path === 'v1/model') {"
        "    const told = await response.json();"
        "    return Response.json({...told, card: {...told.card, valence_scale: 'from bad to good'}});"
        "  }"
        "  if (path !== 'predict') return response;"
        "  return Response.json({...await response.json(), ...fields});"
        "};",
        fields,
    )
    choose(browser, photo)
    explained(browser, "joy")
    assert browser.seen("#abstained") == browser.seen("#valence") == (because is not None)
    if because is None:
        assert browser.one("#dominant").text.startswith("Above all joy")
    else:
        assert browser.one("#dominant").text.startswith("Not sure; perhaps joy")
        assert said in browser.one("#abstained").text
        assert browser.one("#valence").text == "Valence -0.25: from bad to good."


def test_what_is_saved(browser: Browser, photo: Path) -> None:
    choose(browser, photo)
    explained(browser, "joy")
    answer = json.loads(saved(browser, "#save-json", "meadow-emotions.json"))
    assert answer["dominant"]["emotion"] == "joy"
    drawn = Image.open(io.BytesIO(saved(browser, "#save-map", "meadow-joy-quick.png")))
    assert (drawn.format, drawn.size) == ("PNG", (320, 240))


def test_a_sample_by_keyboard_only(browser: Browser) -> None:
    press = ActionChains(browser.driver)

    def at(selector: str) -> bool:
        return bool(browser.script("return document.activeElement.matches(arguments[0])", selector))

    def go_to(selector: str) -> None:
        for _ in range(30):
            if at(selector):
                return
            press.send_keys(Keys.TAB).perform()
        pytest.fail(f"{selector} cannot be reached by the keyboard")

    go_to("[data-sample=chelsea]")
    press.send_keys(Keys.ENTER).perform()
    browser.wait(lambda: browser.seen("#controls"))
    assert at("#dominant")
    name = order(browser)[1]
    go_to(f"[data-emotion={name}]")
    press.send_keys(Keys.ENTER).perform()
    explained(browser, str(name))
    assert at(f"[data-emotion={name}]")
    go_to("[name=order]")
    press.send_keys(Keys.ARROW_DOWN).perform()
    assert order(browser) == list(LABELS)
    press.key_down(Keys.SHIFT).perform()
    go_to("#shown")
    press.key_up(Keys.SHIFT).send_keys(Keys.SPACE).perform()
    assert not browser.seen("#map")


def test_a_dropped_file(browser: Browser, photo: Path) -> None:
    data = {"items": [], "files": [str(photo)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver"):
        browser.command("Input.dispatchDragEvent", type=kind, x=300, y=400, data=data)
    browser.wait_for("body.over")  # the page hears of a drag a little after the command is answered
    browser.command("Input.dispatchDragEvent", type="drop", x=300, y=400, data=data)
    explained(browser, "joy")
    assert "over" not in str(browser.one("body").get_attribute("class"))


def test_a_dropped_text(browser: Browser) -> None:
    item = {"mimeType": "text/plain", "data": "a picture of a cat"}
    for kind in ("dragEnter", "dragOver", "drop"):
        data = {"items": [item], "dragOperationsMask": 1}
        browser.command("Input.dispatchDragEvent", type=kind, x=300, y=400, data=data)
    assert "not a file" in browser.wait_for("#refusal").text


def test_a_pasted_picture(browser: Browser, photo: Path) -> None:
    permissions = ["clipboardReadWrite", "clipboardSanitizedWrite"]
    browser.command("Browser.grantPermissions", permissions=permissions, origin=browser.base)
    copied = browser.driver.execute_async_script(
        "const [text, done] = arguments;"
        "const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));"
        "const item = new ClipboardItem({'image/png': new Blob([bytes], {type: 'image/png'})});"
        "navigator.clipboard.write([item]).then(() => done('copied'), (error) => done(String(error)));",
        base64.b64encode(photo.read_bytes()).decode(),
    )
    assert copied == "copied"
    ActionChains(browser.driver).key_down(Keys.CONTROL).send_keys("v").key_up(Keys.CONTROL).perform()
    explained(browser, "joy")


def test_a_phone_offers_its_camera_and_its_gallery(browser: Browser) -> None:
    assert not browser.seen(".camera")
    browser.look(390, 844, touch=True)
    assert browser.seen(".camera")
    assert browser.one("#camera").get_attribute("capture") == "environment"
    assert browser.one("#file").get_attribute("capture") is None
    assert browser.script("return document.documentElement.scrollWidth <= innerWidth")


def test_maps_of_a_phone_photo_are_asked_for_with_a_copy(browser: Browser, tmp_path: Path) -> None:
    """The prediction is the file's own; each map is of an upright copy that no screen is too small for."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # held upright: what is stored lies on its side
    path = tmp_path / "phone.jpg"
    noise((2600, 1300)).save(path, "JPEG", quality=95, exif=exif)
    browser.script(
        "window.bodies = []; const real = window.fetch;"
        "window.fetch = (path, asked) => { bodies.push([path, asked.body?.size]); return real(path, asked); }"
    )
    choose(browser, path)
    browser.wait_for(SHOWN)
    size = "const m = document.getElementById('map'); return m.complete && [m.naturalWidth, m.naturalHeight]"
    browser.wait(lambda: browser.script(size) == [1024, 2048])
    sent = [each for each in browser.script("return bodies") if each[1]]
    assert [address.partition("?")[0] for address, _ in sent] == ["predict", "explain"]
    assert sent[0][1] == path.stat().st_size
    assert sent[1][1] < 0.8 * path.stat().st_size


def test_a_file_that_is_no_picture(browser: Browser, tmp_path: Path, photo: Path) -> None:
    text = tmp_path / "poem.jpg"
    text.write_text("roses are red", "utf-8")
    choose(browser, text)
    refusal = browser.wait_for("#refusal")
    assert "Save it as JPEG, PNG or WebP" in refusal.text
    assert not browser.seen("#again, #result, #working")
    choose(browser, photo)  # and the page goes on
    explained(browser, "joy")
    assert not browser.seen("#refusal")


def test_a_file_that_is_no_picture_takes_nothing_away(browser: Browser, tmp_path: Path, photo: Path) -> None:
    text = tmp_path / "poem.jpg"
    text.write_text("roses are red", "utf-8")
    choose(browser, photo)
    explained(browser, "joy")
    choose(browser, text)
    assert "poem.jpg: " in browser.wait_for("#refusal").text
    explained(browser, "joy")
    assert browser.seen("#bars, #save-map")
    assert not browser.seen("#working")
    browser.one("[data-emotion=anger]").click()
    explained(browser, "anger")


def test_a_damaged_picture(browser: Browser, tmp_path: Path) -> None:
    cut = tmp_path / "cut.png"
    cut.write_bytes(plain(size=(320, 240))[:-60])
    choose(browser, cut)
    assert "damaged" in browser.wait_for("#refusal").text


def test_a_service_that_cannot_be_reached(browser: Browser, photo: Path) -> None:
    browser.command("Network.enable")
    conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.command("Network.emulateNetworkConditions", offline=True, **conditions)
    choose(browser, photo)
    assert "cannot be reached" in browser.wait_for("#refusal").text
    browser.command("Network.emulateNetworkConditions", offline=False, **conditions)
    browser.one("#again").click()
    explained(browser, "joy")


def test_a_file_that_changed_after_it_was_chosen(browser: Browser, photo: Path, tmp_path: Path) -> None:
    copy = tmp_path / photo.name
    copy.write_bytes(photo.read_bytes())
    choose(browser, copy)
    explained(browser, "joy")
    copy.write_bytes(b"something else")
    browser.one("[data-emotion=anger]").click()
    assert "cannot be read" in browser.wait_for("#refusal").text
    assert not browser.seen("#again")


def test_too_large_a_file(slow: Browser, large: Path) -> None:
    choose(slow, large)
    text = slow.wait_for("#refusal").text
    assert "too large" in text
    assert "0.4 MB" in text
    assert not slow.seen("#again")


def test_a_photo_that_is_too_large_for_what_stands_before_the_service(browser: Browser, photo: Path) -> None:
    browser.script(
        "window.fetch = async () => new Response('<h1>413 Request Entity Too Large</h1>', { status: 413 });"
    )
    choose(browser, photo)
    text = browser.wait_for("#refusal").text
    assert "too large" in text
    assert "smaller copy" in text
    assert not browser.seen("#again")


def test_replicas_that_are_away_are_told_in_a_visitor_s_words(browser: Browser, photo: Path) -> None:
    browser.script(
        "const problem = { type: 'urn:deepemotion:problem:no-replica', title: 'No replica answers' };"
        "window.fetch = async () => new Response(JSON.stringify(problem), { status: 502 });"
    )
    choose(browser, photo)
    text = browser.wait_for("#refusal").text
    assert "not there now" in text
    assert "eplica" not in text
    assert browser.seen("#again")


def test_a_photo_that_is_not_waited_for_is_not_blamed_for_what_was_refused_meanwhile(
    browser: Browser, photo: Path
) -> None:
    browser.script(
        "window.fetch = (_, asked) => new Promise((_, reject) => asked.signal.addEventListener('abort',"
        "  () => reject(new DOMException('', 'AbortError'))));"
    )
    choose(browser, photo)
    browser.wait_for("#working")
    browser.script("dispatchEvent(new ClipboardEvent('paste', { clipboardData: new DataTransfer() }))")
    assert "no picture to paste" in browser.wait_for("#refusal").text
    browser.one("#cancel").click()
    browser.wait(lambda: not browser.seen("#working"))
    assert photo.name not in browser.one("#refusal").text


def test_time_goes_by_and_cancel(slow: Browser, photo: Path) -> None:
    slow.script(
        "document.querySelector('[value=thorough]').checked = true"
    )  # so that there is time to cancel
    choose(slow, photo)
    slow.wait(lambda: "joy" in slow.one("#doing").text and slow.one("#elapsed").text not in {"", "0 s"})
    assert not slow.seen("#map")
    slow.one("#cancel").click()
    slow.wait(lambda: not slow.seen("#working"))
    assert not slow.seen("#map, #controls, #refusal")
    assert "Cancelled" in str(slow.one("#said").get_attribute("textContent"))
    assert slow.one("#dominant").text.startswith("Above all joy")
    assert slow.driver.switch_to.active_element.get_attribute("id") == "dominant"
    assert slow.all("#bars [aria-pressed=true]") == []


def test_a_busy_service_says_when_to_come_again(slow: Browser, narrow: httpx.Client, photo: Path) -> None:
    request = {"url": "/explain", "content": plain(), "params": {"quality": "thorough"}, "timeout": 120}
    running = [threading.Thread(target=narrow.post, kwargs=request) for _ in range(3)]
    for thread in running:
        thread.start()
    choose(slow, photo)
    assert "busy" in slow.wait_for("#refusal").text
    assert slow.one("#dominant").text.startswith("Above all joy")  # the numbers stay
    again = slow.wait_for("#again")
    assert again.text.startswith("Try again in ")
    assert not again.is_enabled()
    slow.wait(lambda: again.is_enabled() and again.text == "Try again")
    for thread in running:
        thread.join()
    again.click()
    explained(slow, "joy")
