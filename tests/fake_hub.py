"""A Hub on this machine: the HTTP calls of huggingface_hub that push and fetch a model repository.

Files travel as they do to the real one: small texts inside the commit, weights through LFS (asked
for, put, then named by hash). What is committed is kept in memory, commit by commit.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlparse

import pytest


class FakeHub(ThreadingHTTPServer):
    """State of the server: `repos` by name, their commits, and blobs of LFS by hash."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, dict[str, Any]] = {}
        self.blobs: dict[str, bytes] = {}
        self.refuse: set[str] = set()
        self.calls: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        """Content of a repository at a commit."""
        entry = self.repos[repo]
        return entry["commits"][entry["head"] if revision == "main" else revision]


class Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, code: int, body: Any = b"", **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        for name, value in {"Content-Type": kind, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.get("length", str(len(content))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    @property
    def path_parts(self) -> list[str]:
        return [unquote(part) for part in urlparse(self.path).path.strip("/").split("/")]

    def do_POST(self) -> None:
        parts, raw = self.path_parts, self.body()
        self.server.calls.append(f"POST {'/'.join(parts)}")
        if any(word in self.path for word in self.server.refuse):
            self.answer(403, {"error": "you may not write here"})
        elif parts == ["api", "repos", "create"]:
            self.create(json.loads(raw))
        elif parts == ["api", "validate-yaml"]:
            self.answer(200, {"errors": [], "warnings": []})
        elif parts[-2:-1] == ["preupload"]:
            self.answer(200, {"files": [self.mode(f) for f in json.loads(raw)["files"]]})
        elif parts[-4:] == ["info", "lfs", "objects", "batch"]:
            objects = [self.upload(item) for item in json.loads(raw)["objects"]]
            self.answer(200, {"transfer": "basic", "objects": objects})
        elif parts[-2:-1] == ["commit"]:
            self.commit("/".join(parts[2:4]), raw)
        else:
            self.answer(404, {"error": self.path})

    def create(self, asked: dict[str, Any]) -> None:
        owner = asked.get("organization") or "me"
        name = f"{owner}/{asked['name']}"
        if name in self.server.repos:
            self.answer(409, {"error": "exists", "url": f"{self.server.endpoint}/{name}"})
            return
        hidden = asked.get("private") or asked.get("visibility") == "private"
        fresh = {"private": hidden, "commits": {}, "head": "", "messages": []}
        self.server.repos[name] = fresh
        self.answer(200, {"url": f"{self.server.endpoint}/{name}", "name": name, "id": name})

    def mode(self, file: dict[str, Any]) -> dict[str, Any]:
        large = file["path"].endswith(".safetensors")
        return {
            "path": file["path"],
            "uploadMode": "lfs" if large else "regular",
            "shouldIgnore": False,
        }

    def upload(self, item: dict[str, Any]) -> dict[str, Any]:
        action = {"href": f"{self.server.endpoint}/blob/{item['oid']}"}
        return {**item, "actions": {"upload": action}}

    def do_PUT(self) -> None:
        content = self.body()
        if hashlib.sha256(content).hexdigest() != self.path_parts[-1]:
            self.answer(400)
            return
        self.server.blobs[self.path_parts[-1]] = content
        self.answer(200)

    def commit(self, repo: str, raw: bytes) -> None:
        entry = self.server.repos[repo]
        files = dict(self.server.files(repo)) if entry["head"] else {}
        for line in raw.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                entry["messages"].append(value["summary"])
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
        sha = hashlib.sha1(raw).hexdigest()
        entry["commits"][sha], entry["head"] = files, sha
        url = f"{self.server.endpoint}/{repo}/commit/{sha}"
        self.answer(200, {"commitUrl": url, "commitOid": sha})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path_parts
        self.server.calls.append(f"{self.command} {'/'.join(parts)}")
        if parts[:2] == ["api", "models"]:
            self.describe("/".join(parts[2:4]), parts[4:])
        elif len(parts) > 4 and parts[2] == "resolve":
            self.file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self.answer(404, {"error": self.path})

    def describe(self, repo: str, rest: list[str]) -> None:
        entry = self.server.repos.get(repo)
        if entry is None:
            self.answer(401, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return
        wanted = rest[1] if len(rest) > 1 else "main"
        sha = entry["head"] if wanted == "main" else wanted
        if sha not in entry["commits"]:
            self.answer(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
            return
        files = self.server.files(repo, sha)
        if rest[:1] == ["tree"]:
            rows = [
                {"type": "file", "path": k, "size": len(v), "oid": hashlib.sha1(v).hexdigest()}
                for k, v in files.items()
            ]
            self.answer(200, rows)
            return
        siblings = [{"rfilename": name} for name in files]
        self.answer(200, {"id": repo, "modelId": repo, "sha": sha, "siblings": siblings})

    def file(self, repo: str, revision: str, name: str) -> None:
        files = self.server.files(repo, revision)
        if name not in files:
            self.answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
            return
        sha = revision if revision != "main" else self.server.repos[repo]["head"]
        tag = hashlib.sha256(files[name]).hexdigest()
        self.answer(200, files[name], ETag=f'"{tag}"', X_Repo_Commit=sha, Accept_Ranges="none")


@contextmanager
def serving(tmp_path: Any) -> Iterator[FakeHub]:
    """Run a Hub, and let huggingface_hub speak to it alone (its cache in a folder of the test)."""
    from huggingface_hub import constants

    hub = FakeHub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.endpoint)
        files = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        patch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        patch.setenv("HF_TOKEN", "hf_of_this_test")
        yield hub
    hub.shutdown()
    hub.server_close()
