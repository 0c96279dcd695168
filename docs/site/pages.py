"""What mkdocs adds to docs/*.md: a page for every module, the README and the recipes.

A hook of mkdocs (mkdocs.yml names it). Links of the Markdown files that lead out of docs/ work on a
code host; here they lead to the page that shows the same file, and one to a file that does not
exist ends the build. After the build every public name must have its place in the index.
"""

import ast
import posixpath
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "maskrcnn_jax"
# Pages that are files of the repository outside docs/.
BORROWED = {
    "README.md": "index.md",
    "README.zh.md": "index.zh.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/RESULTS.md": "benchmarks.md",
}
_LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")


def modules() -> list[Path]:
    """Returns the modules and packages that have a page, relative to the repository."""
    found = (ROOT / PACKAGE).rglob("*.py")
    paths = [path.parent if path.name == "__init__.py" else path for path in found]
    paths = [path for path in paths if not path.name.startswith("_")]
    return sorted(path.relative_to(ROOT) for path in paths if "__pycache__" not in path.parts)


def page_of(path: Path) -> str:
    """Returns the page of a module or package."""
    inner = path.relative_to(PACKAGE)
    if path.suffix == ".py":
        return f"reference/{inner.with_suffix('.md').as_posix()}"
    return posixpath.normpath(f"reference/{inner.as_posix()}/index.md")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Appends the reference to the navigation."""
    config.nav.append({"Reference": _navigation(Path(PACKAGE))})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made."""
    pages = {page_of(path): _reference(path) for path in modules()}
    pages |= {page: (ROOT / file).read_text(encoding="utf-8") for file, page in BORROWED.items()}
    pages["recipes.md"] = _recipes()
    for uri, content in pages.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Turns links to files of the repository into links to their pages."""
    sources = {uri: file for file, uri in BORROWED.items()}
    uri = page.file.src_uri
    file = sources.get(uri, f"docs/{uri}")
    if page.file.generated_by and uri not in sources:
        return markdown

    def moved(match: re.Match) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(file), match[1]))
        if not (ROOT / target).exists():  # mkdocs itself knows docs/ alone
            raise PluginError(f"{file} has a link to {match[1]}, which does not exist")
        shown = _shown(target)
        relative = posixpath.relpath(shown, posixpath.dirname(uri) or ".")
        return relative + (match[2] or "")

    return _LINK.sub(moved, markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Holds the index of the site to the public names of the package."""
    content = Path(config.site_dir, "objects.inv").read_bytes().split(b"\n", 4)[4]
    known = {line.split(" ")[0] for line in zlib.decompress(content).decode().splitlines()}
    if missing := sorted(set(public_names()) - known):
        raise PluginError(f"public names without a page: {', '.join(missing)}")


def public_names() -> Iterator[str]:
    """Yields the classes and functions of the package whose names say that they are public."""
    for path in modules():
        file = path if path.suffix == ".py" else path / "__init__.py"
        prefix = ".".join(path.with_suffix("").parts)
        for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body:
            is_definition = isinstance(node, ast.ClassDef | ast.FunctionDef)
            if is_definition and not node.name.startswith("_"):
                yield f"{prefix}.{node.name}"


def _shown(target: str) -> str:
    """Returns the page or file of the site that shows a file of the repository."""
    if target in BORROWED:
        return BORROWED[target]
    if Path(target) in modules():
        return page_of(Path(target))
    if target == "docs" or target.startswith("docs/"):
        inner = posixpath.relpath(target, "docs")
        return "index.md" if inner == "." else inner
    if target.split("/")[0] == "configs":
        return "recipes.md"
    return "contributing.md"  # tests, benchmarks, the licence: files of a clone


def _reference(path: Path) -> str:
    name = ".".join(path.with_suffix("").parts)
    lines = [f"# `{name}`", "", f"::: {name}", "    options:", "      show_root_heading: false", ""]
    inside = [other for other in modules() if other.parent == path]
    lines += ["| module | |", "|---|---|"] if inside else []
    for other in inside:
        link = posixpath.relpath(page_of(other), posixpath.dirname(page_of(path)))
        lines.append(f"| [`{other.stem}`]({link}) | {_first_line(other)} |")
    return "\n".join(lines) + "\n"


def _first_line(path: Path) -> str:
    file = ROOT / path if path.suffix == ".py" else ROOT / path / "__init__.py"
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("|", "\\|")


def _navigation(package: Path) -> list:
    entries: list = [page_of(package)]
    for path in (other for other in modules() if other.parent == package):
        entry = page_of(path) if path.suffix == ".py" else _navigation(path)
        entries.append({path.stem: entry})
    return entries


def _recipes() -> str:
    """Returns the page of the recipes: what each says of itself, and its text."""
    lines = ["# Recipes", "", "Each is a diff on the [defaults](reference/config.md).", ""]
    for path in sorted((ROOT / "configs").glob("*.py")):
        source = path.read_text(encoding="utf-8")
        lines += [f"## {path.stem}", "", f"```python\n{source}```", ""]
    return "\n".join(lines)
