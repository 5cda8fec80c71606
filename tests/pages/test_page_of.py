"""The fixture `page_of` sees what it is there to see."""

import pytest


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<img src='http://localhost:9/x.png'>", "request for http://localhost:9/x.png"),
        ("<script>console.error('broken')</script>", "broken"),
        ("<script>missing()</script>", "missing is not defined"),
    ],
)
def test_it_records_requests_and_errors(tmp_path, page_of, faults, body, fault):
    path = tmp_path / "page.html"
    path.write_text(f"<!DOCTYPE html><title>page</title>{body}")
    page_of(path)
    assert fault in faults[0]
    faults.clear()


def test_it_lets_a_page_show_what_it_carries(tmp_path, page_of, faults):
    path = tmp_path / "page.html"
    path.write_text(
        "<!DOCTYPE html><title>page</title><link rel='icon' href='data:,'><img src='data:image/gif;"
        "base64,R0lGODlhAQABAIAAAP///wAAACH5BAEAAAAALAAAAAABAAEAAAICRAEAOw=='>"
    )
    page = page_of(path)
    assert page.evaluate("document.images[0].naturalWidth") == 1
    assert faults == []
