"""Pages opened in Chromium; none may load anything from outside or write an error."""

import shutil

import pytest

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def browser():
    """The browser of the system, headless; the tests download none."""
    if BROWSER is None:
        pytest.skip("no chromium or google-chrome on the PATH; install one to test the pages")
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with sync_api.sync_playwright() as playwright:
        # Chromium's own sandbox refuses to run as root, which tests in containers do
        running = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def faults():
    """What pages did that they must not; if any is left at its end, the test fails."""
    found = []
    yield found
    assert found == []


@pytest.fixture
def page_of(browser, faults):
    """`page_of(path, **options)` opens a file as a page; `options` are of playwright's contexts.

    Errors, raised or written to the console, and requests for anything but files, `data:` and
    `blob:` become `faults`.
    """
    contexts = []

    def request(of):
        if not of.url.startswith(("file:", "data:", "blob:")):
            faults.append(f"request for {of.url}")

    def console(message):
        if message.type == "error":
            faults.append(message.text)

    def open_page(path, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(30_000)  # a busy machine is slow, not wrong
        page = context.new_page()
        page.on("request", request)
        page.on("console", console)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(path.resolve().as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
