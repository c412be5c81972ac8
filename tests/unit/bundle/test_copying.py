import os

from edgekd.bundle.copying import copy_tree, templates_hash, tree_files


def test_files_in_order_without_what_a_build_left(tmp_path):
    for name in ("b.txt", "a/z.txt", "a/c.txt", "node_modules/x.js", "a/__pycache__/z.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    os.mkfifo(tmp_path / "pipe")  # reading it would never end
    (tmp_path / "b.txt").chmod(0o700)
    (tmp_path / "a" / "c.txt").chmod(0o600)
    copy_tree(tmp_path, tmp_path / "dist")
    found = [name.as_posix() for name in tree_files(tmp_path / "dist")]
    assert found == ["b.txt", "a/c.txt", "a/z.txt"]
    modes = {name: (tmp_path / "dist" / name).stat().st_mode & 0o777 for name in found}
    assert modes == {"b.txt": 0o755, "a/c.txt": 0o644, "a/z.txt": 0o644}


def test_hash_of_templates_is_of_their_content(tmp_path, monkeypatch):
    from edgekd.bundle import copying

    monkeypatch.setattr(copying, "data_root", lambda: tmp_path)
    page = tmp_path / "export_targets" / "web" / "app" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("a")
    first = templates_hash()
    (page.parent / "node_modules").mkdir()
    (page.parent / "node_modules" / "x").write_text("x")
    assert templates_hash() == first
    page.write_text("b")
    assert templates_hash() != first
