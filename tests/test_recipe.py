"""Recipes: strict, overridable by one language, and each runnable as it stands."""

from __future__ import annotations

import pytest

from wavefold import api
from wavefold.core.errors import UserError
from wavefold.recipe import Recipe, StageRecipe, parse_override, recipe_names, recipe_text
from wavefold.tasks.samples.validation import check_recipe


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_right_and_opens_with_what_it_is(name):
    api.check(Recipe.load(name))
    api.check(Recipe.load(name).quickly())
    head = [line for line in recipe_text(name).splitlines() if line.startswith("#")]
    assert head[0].startswith(f"# {name}: ")
    for word in ("source", "run", "measured"):
        assert any(line.startswith(f"# {word}:") for line in head), f"no line on the {word}"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("member.0.bloks=3", ["member.0.bloks", "no such option"]),
        ("member.0.model=nett1", ["member.0.model", "'nett1'", "did you mean 'net1'"]),
        ("stage.*.epoch=3", ["stage.0.epoch", "did you mean 'epochs'"]),
        ("stage.0.epochs=-1", ["stage.0.epochs", "-1", "greater than or equal to 0"]),
        ("stage.*.epochs=0", ["stage.0.epochs", "1 or more"]),
        ("stage.0.smoothing='much'", ["stage.0.smoothing", "'much'", "number"]),
        ("batches.sise=3", ["batches.sise", "did you mean 'size'"]),
        ("bathces.size=3", ["bathces", "did you mean 'batches'"]),
        ("split.fracton=0.1", ["split.fracton", "did you mean 'fraction'"]),
        ("combine.by=maen", ["combine.by", "did you mean 'mean'"]),
        ("combine.decide=l2", ["combine.decide", "l1"]),
        ("combine.weights=[1.0,2.0]", ["combine.weights", "member.0.weight"]),
        ("member.0.weight=0.0", ["member.0.weight", "greater than 0"]),
        ("output.metric=acuracy", ["output.metric", "did you mean 'accuracy'"]),
        ('prepare=[{step="nois"}]', ["prepare.0.step", "did you mean 'noise'"]),
        ('prepare=[{step="noise", sgima=1.0}]', ["prepare.0.sgima", "did you mean 'sigma'"]),
        ("stage.7.epochs=1", ["stage.7.epochs", "0 to"]),
    ],
)
def test_a_mistyped_value_is_named_with_the_nearest_right_word(change, words):
    with pytest.raises(UserError) as caught:
        check_recipe(Recipe.load("heartbeat").with_(dict([parse_override(change)])))
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_overrides_reach_every_entry_and_keep_types():
    recipe = Recipe.load("heartbeat").with_({"stage.*.epochs": 5, "split.fraction": 0.3, "data.count": 7})
    assert {stage.epochs for stage in recipe.stage} == {5}
    assert recipe.split.options["fraction"] == 0.3
    assert recipe.data.count == 7
    assert parse_override("a.b=2e-3") == ("a.b", 2e-3)
    assert parse_override("split.group=record") == ("split.group", "record")
    with pytest.raises(UserError, match="KEY=VALUE"):
        parse_override("epochs")


def test_another_part_starts_with_its_own_options():
    recipe = Recipe.load("heartbeat").with_({"split.folds": 3, "split.way": "kfold", "stage.0.loss": "cross_entropy"})
    assert recipe.split.options == {"folds": 3}
    assert recipe.stage[0].options == {}
    assert recipe.stage[0].epochs == Recipe.load("heartbeat").stage[0].epochs
    check_recipe(recipe)


def test_an_option_may_bear_the_name_of_another_sections_part():
    recipe = Recipe.load("spectra").with_({"prepare.0.constant": 100.0, "prepare.0.by": "constant"})
    assert recipe.prepare[0].options == {"by": "constant", "constant": 100.0}
    check_recipe(recipe)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("batches.fractions=eqal", ["'eqal'", "each, natural, equal, sqrt", "did you mean 'equal'"]),
        ("batches.fractions={A=-1.0,F=1.0}", ["batches.fractions.A", "-1.0", "0 or more"]),
        ("batches.fractions={A=0.0}", ["batches.fractions", "above 0"]),
    ],
)
def test_fractions_are_words_or_shares_by_class(change, words):
    with pytest.raises(UserError) as caught:
        check_recipe(Recipe.load("spectra").with_(dict([parse_override(change)])))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("name", recipe_names())
def test_one_stage_and_one_member_are_enough(name):
    recipe = Recipe.load(name)
    api.check(recipe.with_({"stage": recipe.tree()["stage"][:1], "member": recipe.tree()["member"][:1]}))


@pytest.mark.parametrize("name", recipe_names())
def test_toml_of_a_recipe_is_the_recipe(name):
    recipe = Recipe.load(name)
    assert Recipe.from_toml(recipe.toml(), "again") == recipe


def test_digest_changes_with_what_changes_numbers_only():
    recipe = Recipe.load("heartbeat")
    assert recipe.with_({"batches.save_every": 1.0}).digest() == recipe.digest()
    assert recipe.with_({"member.0.weight": 2.0}).digest() == recipe.digest()
    assert recipe.with_({"stage.0.learning_rate": 1e-5}).digest() != recipe.digest()
    for path in ("name", "data.test", "output.submission"):
        assert recipe.with_({path: "target"}).digest() == recipe.digest()
    assert recipe.with_({"data.skip_bad": True, "combine.by": "stack_logistic", "quick": {}}).digest() == recipe.digest()


@pytest.mark.parametrize("name", recipe_names())
def test_a_value_set_to_its_default_is_the_same_run(name):
    recipe = Recipe.load(name)
    explicit = Recipe.from_toml(recipe.toml(), "with every default written out")
    assert explicit.stage[0].model_fields_set > recipe.stage[0].model_fields_set
    assert explicit.digest() == recipe.digest()
    assert "patience" not in recipe.stage[0].model_fields_set
    assert recipe.with_({"stage.0.patience": 0}).digest() == recipe.digest()
    assert recipe.with_({"stage.0.patience": 3}).digest() != recipe.digest()


def test_thresholds_count_where_weights_are_chosen_by_them():
    recipe = Recipe.load("frames").with_({"output.thresholds": [0.5]})
    assert recipe.with_({"output.thresholds": [0.7]}).digest() == recipe.digest()
    chosen = recipe.with_({"stage.*.best": "csi"})
    assert chosen.with_({"output.thresholds": [0.7]}).digest() != chosen.digest()


@pytest.mark.parametrize("name", recipe_names())
def test_a_new_key_with_a_default_leaves_old_runs_the_same(name):
    class LaterStage(StageRecipe):
        warm_up: int = 0

    class Later(Recipe):
        stage: list[LaterStage]
        channels_last: bool = False

    tree = Recipe.load(name).tree()
    assert Later.checked(tree, name).digest() == Recipe.load(name).digest()
    assert Later.checked({**tree, "channels_last": True}, name).digest() != Recipe.load(name).digest()
    warm = Later.checked(tree, name).with_({"stage.0.warm_up": 2})
    assert warm.digest() != Recipe.load(name).digest()


def test_an_unknown_recipe_and_a_broken_file(tmp_path):
    with pytest.raises(UserError, match="did you mean 'heartbeat'"):
        Recipe.load("hartbeat")
    broken = tmp_path / "mine.toml"
    broken.write_text("name = ")
    with pytest.raises(UserError, match=r"mine\.toml: is not valid TOML"):
        Recipe.load(str(broken))


def test_other_backgrounds_are_another_run():
    recipe = Recipe.load("cadence")
    assert recipe.with_({"data.backgrounds": "mine"}).digest() != recipe.digest()
    assert recipe.with_({"data.backgrounds": ""}).digest() == recipe.digest()


def test_the_old_name_of_the_learning_rate_is_read_with_a_note(tmp_path, capsys):
    text = recipe_text("heartbeat").replace("learning_rate =", "rate =")
    (tmp_path / "old.toml").write_text(text)
    old, new = Recipe.load(str(tmp_path / "old.toml")), Recipe.load("heartbeat")
    assert old.stage == new.stage
    assert "old.toml: the key 'rate' is now 'learning_rate'; it is still read" in capsys.readouterr().err
    assert new.with_({"stage.*.rate": 0.5}) == new.with_({"stage.*.learning_rate": 0.5})
    assert "stage.*.rate: the key 'rate' is now 'learning_rate'" in capsys.readouterr().err
