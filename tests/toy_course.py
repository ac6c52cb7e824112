"""A made-up course in a temporary folder, for the tests of the notebook machinery."""

from __future__ import annotations

from pathlib import Path

HEADER = """\
# ---
# jupyter:
#   course:
#     minutes: {smoke: 1, cpu: 3, gpu: 2}
#     needs: nothing but Python
#     data: [toy.jsonl]
# ---
"""

FIRST = (
    HEADER
    + """
# %% [markdown]
# # Toy lesson
#
# The stored mean is {{lesson01.mean:.2f}} over {{data.toy.rows}} rows.
# A template says `{{message.content}}`.

# %% tags=["bootstrap"]

# %% tags=["parameters"]
PROFILE = "cpu"

# %%
import json, os, sys
from pathlib import Path

print("profile", PROFILE)
print("noise", file=sys.stderr)

# %%
rows = [json.loads(line) for line in Path("../data/toy.jsonl").read_text().splitlines()]
mean = sum(row["n"] for row in rows) / len(rows)
mean

# %%
mean

# %%
results = Path(os.environ["FINETUNE_RESULTS"]) / f"{PROFILE}.json"
results.parent.mkdir(parents=True, exist_ok=True)
entry = {"profile": PROFILE, "values": {"mean": mean}, "checks": {"passed": 1, "total": 1}}
content = json.loads(results.read_text()) if results.exists() else {"profile": PROFILE, "lessons": {}}
content["lessons"]["lesson01"] = entry
results.write_text(json.dumps(content))
print("saved below", os.getcwd())
"""
)

SECOND = (
    HEADER.replace("    data: [toy.jsonl]\n", "    data: []\n")
    + """
# %% [markdown]
# # Second toy

# %% tags=["parameters"]
PROFILE = "cpu"

# %%
print("second")
"""
)

EXERCISES = """\
# %% [markdown]
# # Toy exercises

# %%
IGNORE = -101

# %% [markdown]
# Count the labels that are trained on.

# %% tags=["exercise"]
def supervised(labels):
    # solution
    return sum(label != IGNORE for label in labels)
    # end solution

# %% tags=["check"]
assert supervised([IGNORE, 5, 6]) == 2, "Count every label except IGNORE."

# %% tags=["exercise"]
# solution
# stub: def double(x):
# stub:     raise NotImplementedError("multiply by two")
def double(x):
    return 2 * x


# end solution

# %% tags=["check"]
try:
    answer = double(21)
except NotImplementedError:
    answer = None
assert answer == 42, "double(21) should be 42."
"""


def make_course(root: Path) -> Path:
    """Write a course of two lessons, one with exercises, below `root`."""
    exercises = root / "notebooks" / "sources" / "exercises"
    exercises.mkdir(parents=True)
    (root / "data").mkdir()
    (root / "data" / "toy.jsonl").write_text('{"n": 7}\n{"n": 9}\n', encoding="utf-8")
    address = "https://github.com/someone/toy-course"
    (root / "pyproject.toml").write_text(f'[project.urls]\nRepository = "{address}"\n', encoding="utf-8")
    (exercises.parent / "01_toy.py").write_text(FIRST, encoding="utf-8")
    (exercises.parent / "02_second.py").write_text(SECOND, encoding="utf-8")
    (exercises / "01_toy.py").write_text(EXERCISES, encoding="utf-8")
    return root
