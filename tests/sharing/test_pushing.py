"""What a push puts on the Hub, what it leaves alone, and what it says where it can't."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

import mvcore
from mvcore import sharing
from mvcore.errors import DataError, HubError, ModelFileError, NotPackagedError
from mvcore.models.base import Model
from mvcore.testing import StandInHub
from mvcore.testing._http import Answer, Request

PNG = b"\x89PNG\r\n\x1a\n" + b"picture"
REPORT = mvcore.Report(values={"log_likelihood": -3.5}, skipped={}, about={"rows": 4, "seed": 0, "K": 2})


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    (tmp_path / "a_figure.png").write_bytes(PNG)
    return tmp_path / "a_figure.png"


def uploaded(hub: StandInHub) -> list[Request]:
    return [request for request in hub.log if request.method == "PUT"]


def commits(hub: StandInHub, repo: str = "ann/model") -> int:
    return len(hub.repos[repo].commits)


def test_a_push_is_one_commit_of_the_files_of_a_saved_model(hub: StandInHub, model: Model, tmp_path: Path) -> None:
    pushed = mvcore.push(model, "ann/model", license="mit")
    repo = hub.repos["ann/model"]
    assert (pushed.repo, pushed.changed, pushed.commit) == ("ann/model", True, repo.branches["main"])
    assert pushed.url == f"{hub.url}/ann/model/commit/{pushed.commit}"
    assert commits(hub) == 2  # the Hub's own first one, and this
    found = repo.at().files
    assert set(found) == {".gitattributes", "config.json", "model.safetensors", "README.md"}
    folder = mvcore.save(model, tmp_path / "here")
    for name in ("config.json", "model.safetensors"):
        assert found[name] == (folder / name).read_bytes()
    again = mvcore.load(str(pushed))
    assert all(torch.equal(again.state_dict()[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("more", [{}, {"report": REPORT}])
def test_the_same_model_makes_no_second_commit(hub: StandInHub, trained: Model, more: dict[str, Any]) -> None:
    first = mvcore.push(trained, "ann/model", license="mit", **more)
    hub.log.clear()
    second = mvcore.push(trained, "hf://ann/model", **more)
    assert (second.changed, second.commit) == (False, first.commit)
    assert commits(hub) == 2
    assert not uploaded(hub)
    again = mvcore.push(mvcore.load("hf://ann/model"), "ann/model", **more)
    assert (again.changed, commits(hub)) == (False, 2)


def test_a_changed_model_replaces_the_older_one_whole(hub: StandInHub, model: Model, picture: Path) -> None:
    mvcore.push(model, "ann/model", license="mit", report=REPORT, figures=[picture])
    assert {"report.json", "figures/a_figure.png"} <= set(hub.repos["ann/model"].at().files)
    assert "![a_figure.png](figures/a_figure.png)" in hub.repos["ann/model"].at().files["README.md"].decode()
    HfApi().create_commit(
        "ann/model",
        [CommitOperationAdd("notes.txt", b"mine"), CommitOperationAdd("figures/mine.svg", b"<svg/>")],
        commit_message="by hand",
    )
    with torch.no_grad():
        next(model.parameters()).add_(1)
    mvcore.push(model, "ann/model")
    found = hub.repos["ann/model"].at().files
    # a report and a figure of other weights would say what is not so; what others put there is theirs
    assert set(found) == {
        ".gitattributes", "config.json", "model.safetensors", "README.md", "notes.txt", "figures/mine.svg",
    }  # fmt: skip
    assert commits(hub) == 4


def test_a_report_travels_along(hub: StandInHub, model: Model, tmp_path: Path) -> None:
    report = mvcore.Report(
        values={"log_likelihood": -3.5, "imputation/a": float("nan")},
        skipped={"coherence": "no labels"},
        about={"K": 2},
    )
    report.save(tmp_path / "report")
    for given in (report, tmp_path / "report", str(tmp_path / "report" / "report.json")):
        mvcore.push(model, "ann/model", license="mit", report=given)
        found = sharing.inspect("hf://ann/model").report
        assert found is not None
        assert found.json() == report.json()
    assert commits(hub) == 2


def test_a_branch_is_made_and_main_left_alone(hub: StandInHub, model: Model) -> None:
    mvcore.push(model, "ann/model", license="mit")
    main = hub.repos["ann/model"].branches["main"]
    with torch.no_grad():
        next(model.parameters()).add_(1)
    pushed = mvcore.push(model, "ann/model", revision="trial/2", message="Try again")
    assert hub.repos["ann/model"].branches == {"main": main, "trial/2": pushed.commit}
    assert hub.repos["ann/model"].at("trial/2").message == "Try again"
    assert "mvcore.load('hf://ann/model@trial/2')" in hub.repos["ann/model"].at("trial/2").files["README.md"].decode()
    assert torch.equal(next(mvcore.load("hf://ann/model@trial/2").parameters()), next(model.parameters()))
    assert mvcore.push(model, "hf://ann/model@trial/2").changed is False


def test_figures_of_one_name_are_told(hub: StandInHub, model: Model, picture: Path) -> None:
    (picture.parent / "more").mkdir()
    other = picture.parent / "more" / picture.name
    other.write_bytes(PNG)
    with pytest.raises(DataError, match="figures must have different names"):
        mvcore.push(model, "ann/model", figures=[picture, other])
    assert not hub.log


@pytest.mark.parametrize("name", ["model.safetensors", "README.md"])
def test_what_a_repository_ignores_is_told(name: str, hub: StandInHub, model: Model) -> None:
    hub.add("ann/model", {".gitignore": f"*.log\n{name}\n".encode()})
    with pytest.raises(HubError, match=f"its .gitignore keeps out {re.escape(name)}; mend it"):
        mvcore.push(model, "ann/model", license="mit")
    hub.add("ann/model", {".gitignore": b"*.log\n"})
    mvcore.push(model, "ann/model", license="mit")


def test_a_tag_can_not_be_pushed_to(hub: StandInHub, model: Model) -> None:
    mvcore.push(model, "ann/model", license="mit")
    HfApi().create_tag("ann/model", tag="v1")
    with torch.no_grad():
        next(model.parameters()).add_(1)
    with pytest.raises(HubError, match="'v1' is no branch, but a tag; name a branch"):
        mvcore.push(model, "ann/model", revision="v1")
    assert commits(hub) == 2


def test_private_means_private_also_where_a_repository_exists(hub: StandInHub, model: Model) -> None:
    mvcore.push(model, "ann/secret", license="mit", private=True)
    assert hub.repos["ann/secret"].private
    assert mvcore.push(model, "ann/secret").changed is False
    mvcore.push(model, "ann/open", license="mit")
    assert not hub.repos["ann/open"].private
    before = dict(hub.repos["ann/open"].branches)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    with pytest.raises(HubError, match=r"ann/open is public already, and private=True .* Nothing was pushed"):
        mvcore.push(model, "ann/open", private=True)
    with pytest.raises(HubError, match="ann/secret is private already, and private=False"):
        mvcore.push(model, "ann/secret", private=False)
    assert hub.repos["ann/open"].branches == before


def test_a_commit_of_someone_else_at_the_same_time_is_said(hub: StandInHub, model: Model) -> None:
    mvcore.push(model, "ann/model", license="mit")

    def meanwhile(request: Request) -> None:
        if "/preupload/" in request.path and commits(hub) == 2:
            files = dict(hub.repos["ann/model"].at().files)
            hub.repos["ann/model"].commit({**files, "README.md": b"by someone else"})

    hub.before = meanwhile
    with torch.no_grad():
        next(model.parameters()).add_(1)
    with pytest.raises(
        HubError, match=r"someone changed the repository at the same time .* Nothing was changed; do it"
    ):
        mvcore.push(model, "ann/model")
    assert hub.repos["ann/model"].at().files["README.md"] == b"by someone else"
    assert mvcore.push(model, "ann/model").changed
    assert b"by someone else" in hub.repos["ann/model"].at().files["README.md"]


@pytest.mark.parametrize(("method", "path"), [("PUT", "/_lfs/"), ("POST", "/commit/")])
def test_an_interrupted_push_changes_nothing_and_the_next_one_sends_the_rest(
    method: str, path: str, hub: StandInHub, model: Model
) -> None:
    refuse = Answer(413, {}, b"{}")
    hub.before = lambda request: refuse if (request.method == method and path in request.path) else None
    with pytest.raises(HubError, match="hf://ann/model: the Hub answered with 413"):
        mvcore.push(model, "ann/model", license="mit")
    assert commits(hub) == 1
    sent = len(hub.lfs)
    assert sent == (1 if path == "/commit/" else 0)
    hub.before = None
    hub.log.clear()
    mvcore.push(model, "ann/model", license="mit")
    assert len(uploaded(hub)) == 1 - sent
    assert mvcore.load("hf://ann/model").config == model.config


@pytest.mark.parametrize(
    ("token", "repo", "message"),
    [
        (False, "ann/model", "does not know who asks .*hf auth login.*HF_TOKEN"),
        ("hf_nobody", "ann/model", "does not know who asks"),
        ("hf_bob", "ann/model", "the token has not the right"),
        ("hf_bob", "ann/new", "the token has not the right"),
        (False, "ann/new", "does not know who asks"),
    ],
)
def test_who_may_not_write_is_told(
    token: Any, repo: str, message: str, hub: StandInHub, model: Model, files: dict[str, bytes]
) -> None:
    hub.tokens["hf_bob"] = "bob"
    hub.add("ann/model", files)
    with pytest.raises(HubError, match=f"(?s)hf://{repo}: .*{message}") as caught:
        mvcore.push(model, repo, license="mit", token=token)
    assert str(token) not in str(caught.value)
    assert list(hub.repos) == ["ann/model"]
    assert commits(hub) == 1


def test_no_network_is_told(hub: StandInHub, model: Model) -> None:
    with pytest.raises(HubError, match="can't be reached"):
        mvcore.push(model, "ann/model", endpoint="http://127.0.0.1:9", license="mit")


@pytest.mark.parametrize(
    "there",
    [
        {"config.json": b'{"model_type": "bert"}', "pytorch_model.bin": b"x"},
        {"config.json": b"{"},
        {"config.json": b"[" * 100_000},
        {"model.safetensors": b"weights of something else"},
    ],
)
def test_a_repository_that_is_something_else_is_left_alone(
    there: dict[str, bytes], hub: StandInHub, model: Model
) -> None:
    hub.add("ann/model", there)
    with pytest.raises(ModelFileError, match="holds something other than a model of mvcore"):
        mvcore.push(model, "ann/model", license="mit")
    assert hub.repos["ann/model"].at().files == there


def test_a_model_of_another_format_is_replaced(hub: StandInHub, model: Model) -> None:
    hub.add("ann/model", {"config.json": b'{"mvcore": {"format": 99}}', "model.safetensors": b"x"})
    mvcore.push(model, "ann/model", license="mit")
    assert mvcore.load("hf://ann/model").config == model.config


def test_what_can_not_be_saved_is_refused_before_anything_is_asked(hub: StandInHub, model: Model) -> None:
    model.config = None
    with pytest.raises(NotPackagedError):
        mvcore.push(model, "ann/model")
    assert not hub.log


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"repo": "model"}, HubError, "'model' is no address"),
        ({"repo": 5}, HubError, "5 is no address"),
        ({"revision": "a" * 40}, HubError, "names a commit, which nothing can be put on"),
        ({"repo": "ann/model@x", "revision": "y"}, HubError, "give one of them"),
        ({"license": "All rights reserved!"}, DataError, "license must be an identifier"),
        ({"license": 5}, DataError, "license must be"),
        ({"datasets": "mfeat"}, DataError, "datasets must be a list"),
        ({"datasets": [1]}, DataError, "datasets must be a list of names"),
        ({"message": " "}, DataError, "message must be a text"),
        ({"report": "nowhere"}, DataError, "'nowhere' holds no report"),
        ({"figures": ["nowhere.png"]}, DataError, "There is no figure 'nowhere.png'"),
        ({"figures": [__file__]}, DataError, "is no PNG file"),
        ({"figures": "x.png"}, DataError, "figures must be a list"),
    ],
)
def test_arguments_are_checked_before_anything_is_asked(
    arguments: dict[str, Any], error: type[Exception], message: str, hub: StandInHub, model: Model
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        mvcore.push(model, **{"repo": "ann/model", **arguments})
    assert not hub.log


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", '{"about": {}, "values": [], "skipped": {}}',
     '{"about": {}, "values": {"a": "1"}, "skipped": {}}',
     '{"about": {}, "values": {"a": NaN}, "skipped": {}}', "[" * 100_000],
)  # fmt: skip
def test_what_is_no_report_is_told(content: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(DataError, match="is no report"):
        mvcore.Report.read(tmp_path)


def test_a_model_that_was_trained_on_names_what_it_came_from(hub: StandInHub, model: Model, rows: Any) -> None:
    mvcore.push(model, "ann/model", license="mit")
    tuned = mvcore.fit(mvcore.load("hf://ann/model"), rows, epochs=1, progress=False).model
    mvcore.push(tuned, "ann/tuned", license="mit")
    assert "base_model: ann/model\n" in hub.repos["ann/tuned"].at().files["README.md"].decode()
    mvcore.push(tuned, "ann/model")
    assert "base_model" not in hub.repos["ann/model"].at().files["README.md"].decode()


def test_what_was_deleted_by_hand_comes_back(hub: StandInHub, model: Model) -> None:
    mvcore.push(model, "ann/model", license="mit")
    HfApi().create_commit("ann/model", [CommitOperationDelete("README.md")], commit_message="by hand")
    assert mvcore.push(model, "ann/model", license="mit").changed
    assert json.loads(hub.repos["ann/model"].at().files["config.json"])["mvcore"]["format"] == 1


def test_two_pushes_at_once_leave_one_whole_model(hub: StandInHub, model: Model, rows: Any, small: Any) -> None:
    """Each of two processes may find the other's commit first: then it says so."""
    from concurrent.futures import ThreadPoolExecutor

    mvcore.push(model, "ann/model", license="mit")
    others = [mvcore.create("multimodal", rows, **{**small, "latent_dim": size}) for size in (3, 5)]

    def attempt(one: Model) -> sharing.Pushed | HubError:
        try:
            return mvcore.push(one, "ann/model")
        except HubError as error:
            return error

    run: Callable[[Model], Any] = attempt
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(run, others))
    assert all("at the same time" in str(one) for one in done if isinstance(one, HubError))
    last = hub.repos["ann/model"].branches["main"]
    winner = next(o for o, d in zip(others, done, strict=True) if isinstance(d, sharing.Pushed) and d.commit == last)
    assert mvcore.load("hf://ann/model").config == winner.config
