"""`finetune` on a file it has never seen: 1,400 questions about Python's standard library, one command, default settings.

The file is made from the docstrings that Python itself carries, so anyone can make it again:

    python tests/benchmarks/finetune_command.py
"""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

MODULES = (
    "argparse ast asyncio base64 bisect calendar codecs collections concurrent.futures configparser contextlib copy csv "
    "datetime decimal difflib dis email.message enum fileinput fnmatch fractions ftplib functools gettext glob gzip hashlib "
    "heapq hmac html http.client http.cookiejar http.server imaplib inspect io ipaddress itertools json locale logging "
    "logging.handlers lzma mailbox math mimetypes multiprocessing numbers operator optparse os pathlib pdb pickle "
    "pickletools pkgutil platform plistlib poplib pprint queue random re sched selectors shelve shlex shutil signal "
    "smtplib socket socketserver sqlite3 ssl stat statistics string struct subprocess symtable sys sysconfig tarfile "
    "tempfile textwrap threading time timeit tokenize trace traceback types typing unittest unittest.mock urllib.parse "
    "urllib.request uuid warnings wave weakref webbrowser xml.dom.minidom xml.etree.ElementTree xmlrpc.client zipfile zoneinfo"
)
ROWS, WORDS = 1_400, 48


def documented(module_name: str) -> list[tuple[str, str]]:
    """(name, docstring) of a module's public functions, classes and methods."""
    module = importlib.import_module(module_name)
    found = []
    for name, thing in inspect.getmembers(module):
        if name.startswith("_") or getattr(thing, "__module__", None) != module_name:
            continue
        found.append((f"{module_name}.{name}", thing))
        if inspect.isclass(thing):
            methods = inspect.getmembers(thing, callable)
            found += [(f"{module_name}.{name}.{m}", f) for m, f in methods if not m.startswith("_")]
    return [(name, inspect.getdoc(thing) or "") for name, thing in found]


def rows() -> list[dict[str, str]]:
    """Questions and answers, one for every distinct docstring that has some length."""
    taken: dict[str, str] = {}
    for module in MODULES.split():
        for name, text in documented(module):
            answer = " ".join(text.split()[:WORDS])
            if len(answer.split()) >= 14:
                taken.setdefault(answer, name)
    pairs = [{"question": f"What is {name} for?", "answer": answer} for answer, name in taken.items()]
    step = len(pairs) / min(ROWS, len(pairs))
    return [pairs[int(i * step)] for i in range(min(ROWS, len(pairs)))]


def main() -> None:
    """Write the file, run the command, print seconds and the change in test NLL."""
    with tempfile.TemporaryDirectory() as folder:
        data, output = Path(folder) / "standard_library.jsonl", Path(folder) / "tuned"
        made = rows()
        data.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
        print(f"{len(made):,} rows, {sum(len(r['answer'].split()) for r in made) / len(made):.0f} words an answer")
        command = [sys.executable, "-m", "finetune_utils", "finetune", str(data), "--output", str(output), "--json"]
        started = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        seconds = time.perf_counter() - started
    report = json.loads(done.stdout)
    print(textwrap.indent(json.dumps({k: v for k, v in report.items() if k != "examples"}, indent=1), "  "))
    print(f"whole command: {seconds:.0f} s")


if __name__ == "__main__":
    main()
