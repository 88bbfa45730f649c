"""The pages: whole, from this server alone, with nothing that the content policy forbids."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import web
from tests.unit.test_web_routes import client, run
from tests.unit.web_run import problem

__all__ = ["client", "run"]  # fixtures

STATIC = Path(web.__file__).parent / "static"
PAGES = ("/", "/docs", "/login")
OURS = sorted(path for path in STATIC.iterdir() if path.suffix in (".html", ".js", ".css"))
LOADED = re.compile(r"""(?:src|href)="(/[^"#]*)\"""")
IMPORTED = re.compile(r'from "\./([\w.]+)"')


@pytest.mark.parametrize("path", [*PAGES, *(f"/static/{path.name}" for path in OURS)])
def test_pages_come_from_the_server_itself(client: TestClient, path: str) -> None:
    response = client.get(path)

    assert response.status_code == 200
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_pages_load_nothing_from_elsewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert "https://" not in text
    assert "http://" not in text


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_pages_have_no_script_or_style_in_them_which_the_policy_would_refuse(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert "<style" not in text
    if path.suffix == ".html":
        assert not re.search(r'\s(style|on\w+)="', text)
        assert not re.search(r"<script(?![^>]*\ssrc=)", text)


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_what_a_page_loads_and_links_to_is_there(client: TestClient, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    wanted = LOADED.findall(text) + [f"/static/{name}" for name in IMPORTED.findall(text)]

    assert {name: client.get(name).status_code for name in wanted} == dict.fromkeys(wanted, 200)


@pytest.mark.parametrize(("page", "script"), [("index", "app"), ("login", "login")])
def test_every_place_that_a_script_fills_is_on_its_page(page: str, script: str) -> None:
    text = (STATIC / f"{page}.html").read_text(encoding="utf-8")
    code = (STATIC / f"{script}.js").read_text(encoding="utf-8")
    filled = set(re.findall(r'(?:byId|show|note|fillTable|getElementById)\("([\w-]+)"', code))

    assert filled
    assert filled <= set(re.findall(r'\bid="([\w-]+)"', text))


def test_person_who_mistypes_an_address_gets_a_page_and_a_program_a_problem(
    client: TestClient,
) -> None:
    browser = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}

    page = client.get("/nothing", headers=browser)

    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    assert 'href="/docs"' in page.text
    assert problem(client.get("/nothing"), 404)["code"] == "not_found"
    assert problem(client.get("/api/nothing", headers=browser), 404)["code"] == "not_found"
    assert problem(client.get("/static/nothing.js"), 404)["code"] == "not_found"


def test_interface_says_how_to_show_a_key(client: TestClient) -> None:
    document = client.get("/openapi.json").json()

    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert document["security"] == [{}, {"key": []}]
