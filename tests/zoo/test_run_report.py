"""A run is one page, with its curves."""

import json
from pathlib import Path

from parley.zoo.run_report import write_run_report


def test_a_run_is_one_page(tmp_path: Path):
    records = [
        {"step": 10, "loss": 40.0, "learning_rate": 1e-3, "gradient_norm": 2.0, "goodput": 0.5},
        {"step": 20, "dev/wer": 0.25},
        {"step": 20, "loss": 30.0, "learning_rate": 1e-3, "gradient_norm": 1.0, "goodput": 0.9},
    ]
    lines = "".join(json.dumps(r) + "\n" for r in records)
    (tmp_path / "metrics.jsonl").write_text(lines)
    facts = {"recipe": {"name": "mine", "steps": 20}, "packages": {"jax": "1"}}
    (tmp_path / "recipe.json").write_text(json.dumps(facts))
    page = write_run_report(tmp_path).read_text()
    assert "Step 20 of 20: loss 30, 90 % of the time training." in page
    assert "| 20 | 0.2500 |" in page
    assert "dev/wer" in page
    assert (tmp_path / "curves.svg").exists()
