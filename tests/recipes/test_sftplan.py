"""Plans for large models from their sizes, and the files that start them on GPUs."""

from dataclasses import replace
from importlib import import_module

import pytest

pytest.importorskip("transformers", reason="navigators need transformers: sterna[vlm]")

from sterna.commands.finetuning import sft
from sterna.errors import InputError
from sterna.models.navigator.families import causal_class
from sterna.recipes import sftplan
from sterna.recipes.launch import command, launch_file, launches
from sterna.recipes.sft import SFT, vlm_2b, vlm_7b, vlm_lora
from sterna.recipes.sftplan import PUBLISHED, Gpu, counted, plan_sft
from toy_sft import toy_run, toy_store


@pytest.fixture(scope="module")
def counts():
    return {name: counted(settings) for name, settings in PUBLISHED.items()}


def test_counts_are_those_of_the_published_models(counts):
    """As the cards of the four models state them."""
    totals = [count.total for count in counts.values()]
    assert totals == [2_208_985_600, 8_291_375_616, 3_754_622_976, 8_292_166_656]


def test_more_gpus_take_less_time_and_memory():
    _, plan = plan_sft(vlm_7b())
    one, eight = plan["plans"]
    assert one["seconds"] == pytest.approx(8 * eight["seconds"])
    assert one["bytes"] > 80e9 > eight["bytes"] > 16 * plan["counts"]["total"] / 8 * 0.8
    _, faster = plan_sft(vlm_7b(), gpu=Gpu(utilisation=0.7))
    assert faster["plans"][0]["seconds"] == pytest.approx(one["seconds"] / 2)


def test_what_is_trained_is_what_moments_are_kept_of(counts):
    """16 bytes a trained parameter (weight, gradient, two moments), 4 a frozen one."""
    count = counts["Qwen/Qwen2-VL-2B-Instruct"]
    config = replace(vlm_2b(), loop=replace(vlm_2b().loop, pieces=64))
    tuned = replace(config, model=replace(config.model, tower="tuned"))
    frozen, both = (plan_sft(c)[1]["plans"][0]["bytes"] for c in (config, tuned))
    assert both - frozen == pytest.approx(12 * count.tower)
    text, plan = plan_sft(vlm_lora())
    assert (
        f"{vlm_lora().model.lora.rank * counts['Qwen/Qwen2.5-VL-3B-Instruct'].projections:,}"
        in text
    )
    assert plan["plans"][0]["bytes"] < 20e9


def test_tokens_of_a_plan_are_those_of_its_frames():
    _, plan = plan_sft(vlm_2b())
    # 640 x 480 within 336 x 336 pixels: 13 x 10 tokens of 28 pixels, 17 images.
    assert plan["load"]["longest"] == 260 + 17 * 13 * 10


def test_a_small_model_is_measured(tmp_path):
    store = toy_store(tmp_path / "walks")
    text, plan = plan_sft(toy_run(store.folder))
    assert (
        plan["seconds_per_iteration"] > 0 and plan["samples"] == store.manifest["counts"]["samples"]
    )
    assert "20 iterations" in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["walks"]


def test_models_of_unknown_size_are_refused(tmp_path):
    with pytest.raises(InputError, match="no sizes known"):
        plan_sft(replace(vlm_2b(), model=replace(vlm_2b().model, name="some/thing")))


def test_the_command_plans(capsys, tmp_path):
    assert sft(["vlm-2b", "--plan"]) == 0
    said = capsys.readouterr().out
    assert "1 GPU " in said and "8 GPUs" in said and "not measured" in said
    assert set(SFT) >= {"navigator-s", "vlm-2b", "vlm-7b"}
    with pytest.raises(InputError, match=r"no ego\.json there"):
        sft(["navigator-s", "--walks.train", str(tmp_path), "--out", str(tmp_path / "run")])


@pytest.mark.parametrize("name", sorted(launches()))
def test_launch_files_are_read_by_accelerate(name):
    """With accelerate's own reader, and turned into the environment that a launch gets."""
    reader = import_module("accelerate.commands.config.config_args")
    config = reader.load_config_from_file(str(launch_file(name)))
    assert config.num_processes == {"single": 1, "cpu": 2}.get(name.split("-")[0], 8)
    launcher = import_module("accelerate.commands.launch")
    parser = launcher.launch_command_parser()
    args = parser.parse_args(["--config_file", str(launch_file(name)), "-m", "sterna.cli", "sft"])
    args, _, _ = launcher._validate_launch_command(args)
    assert args.use_fsdp is name.startswith("fsdp2")
    assert args.use_deepspeed is name.startswith("zero")
    if args.use_fsdp:
        assert str(args.fsdp_version) == "2"
        layers = {type(m).__name__ for m in _tiny().modules()}
        assert set(args.fsdp_transformer_layer_cls_to_wrap.split(",")) <= layers
    if args.use_deepspeed:
        assert args.zero_stage == (3 if "7b" in name else 2)
    assert str(launch_file(name)) in command(name, "sft vlm-7b --out run")


def _tiny():
    settings = dict(PUBLISHED["Qwen/Qwen2-VL-2B-Instruct"])
    family = settings.pop("model_type")
    import torch

    config = sftplan.config_class(family)(**settings)
    with torch.device("meta"):
        return causal_class(family)(config)


def test_a_launch_that_does_not_exist_is_named():
    with pytest.raises(InputError, match="expected one of cpu-2-processes, ddp-8-gpus"):
        launch_file("tpu")
