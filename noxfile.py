"""The project's sessions: `nox -l` lists them, and `nox -s tests -- -k elbo` hands what follows `--` to pytest.

An environment is kept and used again; the code of this repository is built and installed anew each time, not editable,
so that what is tested is what a user gets. `constraints.txt` fixes the versions of everything else.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import nox
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["lint", "types", "tests", "slow"]

ROOT = Path(__file__).parent
PLUGINS = {path.parent.name: path.parent.relative_to(ROOT) for path in sorted(ROOT.glob("plugins/*/pyproject.toml"))}
LOCAL = {"mvcore", *PLUGINS}
EXTRAS = ("eval", "frames", "sweep", "testing")
#: Tests of a file stay together, for they share what it sets up; more than four processes would ask for much memory.
PARALLEL = ("-n", "auto", "--maxprocesses", "4", "--dist", "loadfile")


@nox.session
def lint(session: nox.Session) -> None:
    """Lint with ruff and check the formatting."""
    install(session, group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the core and of every plugin, strictly."""
    # Only what they depend on is installed: mypy reads the sources.
    install(session, group("types"), requirements(Path(), EXTRAS), *map(requirements, PLUGINS.values()))
    session.run("mypy", "mvcore", *(str(package) for plugin in PLUGINS.values() for package in packages(plugin)))


@nox.session
def tests(session: nox.Session) -> None:
    """Test the core and all plugins together, but for what is slow."""
    test(session, "not slow and not network")


@nox.session
def slow(session: nox.Session) -> None:
    """Run the slow tests of the core and all plugins: whole trainings, and processes that are killed."""
    test(session, "slow and not network")


def test(session: nox.Session, marked: str) -> None:
    """Run the tests with these marks, file by file in as many processes as there are cores, each with one thread."""
    install_local(session, PLUGINS, EXTRAS)
    install(session, group("parallel"))
    chosen = ("-m", marked, *session.posargs)  # the last -m counts
    session.run("pytest", *PARALLEL, *chosen, env={"OMP_NUM_THREADS": "1"})


@nox.session
def core(session: nox.Session) -> None:
    """Test the core alone, without a plugin."""
    install_local(session, (), EXTRAS)
    session.run("pytest", "-o", "testpaths=tests", *session.posargs)


@nox.session
@nox.parametrize("name", [nox.param(name, id=name) for name in PLUGINS])
def plugin(session: nox.Session, name: str) -> None:
    """Test one plugin, with the core and the plugins that it depends on."""
    install_local(session, (*needs(name), name), EXTRAS)
    session.run("pytest", "-o", f"testpaths={PLUGINS[name] / 'tests'}", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz with twenty times the inputs of the tests."""
    install_local(session, PLUGINS, EXTRAS)
    session.run("pytest", "-o", "testpaths=tests/fuzz", *session.posargs, env={"HYPOTHESIS_PROFILE": "fuzz"})


@nox.session
def kills(session: nox.Session) -> None:
    """Kill ``mvcore train``, alone and on two ranks, ``fit`` and ``save`` a hundred times each; prints the counts."""
    install_local(session, PLUGINS, EXTRAS)
    chosen = ("-o", "testpaths=tests/kills", "-m", "slow", "-s")
    session.run("pytest", *chosen, *session.posargs, env={"MVCORE_KILLS": os.environ.get("MVCORE_KILLS", "100")})


@nox.session
def demo(session: nox.Session) -> None:
    """Run the demonstration; its figures go to demo-output/."""
    install_local(session, PLUGINS, ("eval",))
    session.run("mvcore", "demo", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks, MultiVae beside mvcore."""
    # MultiVae imports torchvision, which no compared model uses: benchmarks/multivae_side.py puts a stub in its place.
    install(session, group("bench"))
    install(session, ["multivae==1.0.3", "pythae"], "--no-deps")
    install_local(session, PLUGINS, EXTRAS)
    session.run("python", "-m", "benchmarks.run", *session.posargs, env={"PYTHONSAFEPATH": ""})


def group(name: str) -> list[str]:
    """The requirements of a dependency group."""
    return list(nox.project.dependency_groups(nox.project.load_toml(ROOT / "pyproject.toml"), name))


def requirements(project: Path, extras: Iterable[str] = ()) -> list[str]:
    """What the distribution in the folder ``project`` needs from elsewhere, the local distributions left out."""
    metadata = nox.project.load_toml(ROOT / project / "pyproject.toml")["project"]
    wanted = list(metadata["dependencies"])
    for extra in extras:
        wanted += metadata["optional-dependencies"][extra]
    return [line for line in wanted if canonicalize_name(Requirement(line).name) not in LOCAL]


def needs(name: str) -> list[str]:
    """The plugins of this repository that one depends on."""
    wanted = nox.project.load_toml(ROOT / PLUGINS[name] / "pyproject.toml")["project"]["dependencies"]
    names = [canonicalize_name(Requirement(line).name) for line in wanted]
    return [other for other in names if other in PLUGINS]


def packages(plugin: Path) -> list[Path]:
    """The import packages in the ``src`` folder of a plugin."""
    return [path.parent.relative_to(ROOT) for path in sorted((ROOT / plugin).glob("src/*/__init__.py"))]


def install(session: nox.Session, *wanted: Iterable[str] | str) -> None:
    """Install from the registry, under the constraints; a string is an option of pip."""
    names = [name for part in wanted for name in ([part] if isinstance(part, str) else part)]
    session.install("-c", "constraints.txt", *names)


def install_local(session: nox.Session, plugins: Iterable[str], extras: Iterable[str]) -> None:
    """Install the core with ``extras`` and the named ``plugins`` as they are now, and no other plugin of ours."""
    chosen = [PLUGINS[name] for name in plugins]
    install(session, ["hatchling"], requirements(Path(), extras), *map(requirements, chosen))
    if stale := sorted(installed(session) - {"mvcore", *plugins}):
        session.run("python", "-m", "pip", "uninstall", "--yes", "--quiet", *stale, silent=True)
    folders = [f".{os.sep}{folder}" for folder in (Path(), *chosen)]
    session.install("--no-deps", "--no-build-isolation", "--force-reinstall", *folders)
    # Neither pytest nor a program that a test starts may import the checkout in place of what was installed.
    session.env["PYTHONSAFEPATH"] = "1"


def installed(session: nox.Session) -> set[str]:
    """The distributions in the session's environment that are called mvcore or mvcore-…, by their normal names."""
    listing = session.run("python", "-m", "pip", "list", "--format=freeze", silent=True) or ""
    names = {canonicalize_name(line.partition("==")[0].strip()) for line in listing.splitlines() if "==" in line}
    return {name for name in names if name == "mvcore" or name.startswith("mvcore-")}
