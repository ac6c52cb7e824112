"""Figures of evaluation: what the sentence says is what was drawn, and every picture has its alt text."""

from finetune_utils import evaluation_plots as plots
from finetune_utils.evaluation import Interval

STUDY = [
    {"arm": "untuned", "change": 0.0, "change_low": 0.0, "change_high": 0.0, "mcq_accuracy": 0.5, "mcq_low": 0.4,
     "mcq_high": 0.6},
    {"arm": "lora", "change": 0.12, "change_low": 0.1, "change_high": 0.15, "mcq_accuracy": 0.48, "mcq_low": 0.4,
     "mcq_high": 0.57},
    {"arm": "full", "change": 0.3, "change_low": 0.25, "change_high": 0.36, "mcq_accuracy": 0.45, "mcq_low": 0.36,
     "mcq_high": 0.55},
]  # fmt: skip


def labels(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def test_categories_that_neither_model_shows_are_left_out(shown):
    before, after = (
        {"empty": 0, "too long": 7, "off-topic": 9, "any": 12},
        {"empty": 0, "too long": 1, "off-topic": 3, "any": 4},
    )
    plots.error_categories(before, after, 20)
    figure, alt, sentence = shown[0]
    assert labels(figure.axes[0]) == ["off-topic", "too long"]
    assert sorted(bar.get_width() for bar in figure.axes[0].patches) == [1, 3, 7, 9]
    assert sentence == "Untuned to tuned: off-topic 9 to 3, too long 7 to 1; answers with any error 12 to 4 of 20."
    assert sentence in alt


def test_no_errors_at_all_can_be_drawn(shown):
    plots.error_categories({"empty": 0, "any": 0}, {"empty": 0, "any": 0}, 4)
    assert shown[0][2] == "Untuned to tuned: none found; answers with any error 0 to 0 of 4."


def test_ratings_stand_from_best_to_worst_with_their_intervals(shown):
    plots.ratings({"untuned": Interval(980, 950, 1010), "tuned": Interval(1020, 990, 1060)})
    figure, alt, sentence = shown[0]
    assert labels(figure.axes[0]) == ["tuned", "untuned"]
    ends = [line.get_xdata() for line in figure.axes[0].lines if line.get_marker() == "|"]
    assert [list(x) for x in ends] == [[990, 1060], [950, 1010]]
    assert sentence == "Rating by the rule, with 95 % interval: tuned 1020 [990, 1060], untuned 980 [950, 1010]."
    assert sentence in alt


def test_each_kind_of_pair_has_its_panel(shown):
    found = {"real": {"rule": Interval(0.4, 0.2, 0.6), "model": Interval(0.3, 0.1, 0.5)}}
    found["traps"] = {"rule": Interval(0.2, 0.1, 0.3), "model": Interval(0.35, 0.2, 0.5)}
    plots.judges(found)
    figure, alt, sentence = shown[0]
    assert [ax.get_title() for ax in figure.axes] == ["real", "traps"]
    assert labels(figure.axes[0]) == ["rule", "model"]
    assert sentence == "Verdicts equal to the labels. real: rule 40%, model 30%; traps: rule 20%, model 35%."
    assert sentence in alt


def test_one_kind_of_pair_is_enough(shown):
    plots.judges({"real": {"rule": Interval(0.4, 0.2, 0.6)}})
    assert len(shown[0][0].axes) == 1


def test_forgetting_shows_every_arm_and_the_run_made_now(shown):
    plots.forgetting(STUDY, live=Interval(0.2, 0.17, 0.24))
    figure, alt, sentence = shown[0]
    left, right = figure.axes
    assert labels(left) == ["untuned", "LoRA", "full fine-tuning", "now: the assistant"]
    spans = [list(line.get_xdata()) for line in left.lines if line.get_marker() == "|"]
    assert spans == [[0, 0], [0.1, 0.15], [0.25, 0.36], [0.17, 0.24]]
    assert right.get_xlim() == (0, 1)
    assert "LoRA +0.120 and 48%; full fine-tuning +0.300 and 45%" in sentence
    assert "the assistant now +0.200 [+0.170, +0.240]" in sentence
    assert sentence in alt


def test_an_arm_without_a_change_is_drawn_at_zero(shown):
    rows = [STUDY[0] | {"change": None, "change_low": None, "change_high": None}, STUDY[2]]
    plots.forgetting(rows)
    figure, _, sentence = shown[0]
    assert labels(figure.axes[0]) == ["untuned", "full fine-tuning"]
    assert "untuned +0.000 and 50%" in sentence
    assert "now" not in sentence
