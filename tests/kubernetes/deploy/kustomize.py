"""Resolves a kustomization as kustomize does, as far as ours go; refuses what it does not know.

Resources (files and folders, no file outside its own folder), and patches: strategic merge, by path or in
the text, ``$patch: delete`` included.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]
Id = tuple[str, str, str, str]
KEYS = {"apiVersion", "kind", "resources", "patches"}
MERGED = {"containers": "name", "volumes": "name", "env": "name", "volumeMounts": "mountPath"}
"""Lists that a strategic merge joins by a key; ``ports`` by theirs; others are replaced."""


def identity(one: Json) -> Id:
    meta = one["metadata"]
    return one["apiVersion"], one["kind"], meta.get("namespace", ""), meta["name"]


def resolve(folder: Path) -> list[Json]:
    """Return the objects of a kustomization, in order."""
    said = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    assert said["kind"] == "Kustomization"
    assert said.keys() <= KEYS, f"{folder}: this resolver does not know {said.keys() - KEYS}"
    found: dict[Id, Json] = {}
    for name in said["resources"]:
        for one in _resource(folder, name):
            assert identity(one) not in found, f"{folder}: {identity(one)} is there twice"
            found[identity(one)] = one
    for patch in said.get("patches", []):
        assert patch.keys() in ({"path"}, {"patch"}), f"{folder}: {patch}"
        text = patch.get("patch") or _inside(folder, patch["path"]).read_text(encoding="utf-8")
        for one in yaml.safe_load_all(text):
            target = identity(one)
            assert target in found, f"{folder}: a patch of {target}, which is not there"
            if one.pop("$patch", "") == "delete":
                del found[target]
            else:
                found[target] = merged(found[target], one)
    return list(found.values())


def _resource(folder: Path, name: str) -> list[Json]:
    if (folder / name).is_dir():
        below = (folder / name).resolve()
        assert not folder.resolve().is_relative_to(below), f"{folder}: {name} is a cycle"
        return resolve(below)
    text = _inside(folder, name).read_text(encoding="utf-8")
    return [one for one in yaml.safe_load_all(text) if one]


def _inside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    assert path.is_relative_to(folder.resolve()), f"{folder}: {name} is outside"
    return path


def merged(before: Any, patch: Any, key: str = "") -> Any:
    """Return a strategic merge."""
    if isinstance(before, dict) and isinstance(patch, dict):
        both = {**before}
        for name, value in patch.items():
            both[name] = merged(before.get(name), value, name)
        return both
    if isinstance(before, list) and isinstance(patch, list) and (by := _key(key, patch)):
        both_lists = {one[by]: one for one in before}
        for one in patch:
            both_lists[one[by]] = merged(both_lists.get(one[by], {}), one)
        return list(both_lists.values())
    return patch


def _key(name: str, items: list[Any]) -> str:
    if name == "ports":
        return "containerPort" if "containerPort" in items[0] else "port"
    return MERGED.get(name, "")
