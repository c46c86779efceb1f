"""What the stage quantize is asked for, and what of it cannot go together."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from pydantic import Field

from edgekit.errors import UsageError
from edgekit.quantization import neural_compressor
from edgekit.quantization.engines import EngineName
from edgekit.quantization.litert import refuse_onnx_choices, resolve_method
from edgekit.quantization.schemes import Embeddings, Method, Scheme, SchemeName, resolve_scheme
from edgekit.quantization.widths import Range
from edgekit.stages.base import Goal, StageSettings
from edgekit.target import Precision, Target

ONNXRUNTIME, BOTH = "onnxruntime", "both"

Alpha = Annotated[float, Field(gt=0, lt=1)]


class QuantizeSettings(StageSettings):
    engine: EngineName = Field(
        "onnxruntime",
        description="onnxruntime, neural-compressor (static INT8; the extra [inc]), or both, of which the better stays",
    )
    method: Method = Field(
        "auto",
        description="dynamic, static, fp16, int4 (weights of products alone), auto (what the target takes); TFLite:"
        " weight-only too",
    )
    scheme: SchemeName = Field(
        "auto", description="types of activations and weights: u8s8, s8s8, u8u8, or the target's own"
    )
    reduce_range: Range = Field(
        "auto", description="whether weights use 7 of their 8 bits: always, never, or auto, as the target needs"
    )
    embeddings: Embeddings = Field(
        "int8", description="type of embedding tables: int8, float, or int4 for words (onnxruntime on a CPU)"
    )
    samples: int = Field(
        256, ge=1, description="training samples that are run for static ranges, and for what overflows in FP16"
    )
    smooth: Alpha | Literal["none"] = Field(
        "none",
        description="SmoothQuant before INT8: how much of what is hard in activations goes into the weights behind a"
        " LayerNorm, such as 0.5 (onnxruntime, with data)",
    )
    equalize: bool = Field(
        False, description="whether convolutions with a ReLU between them are brought to like ranges before INT8"
    )
    float_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the layers that multiply, those that INT8 moves most, that stays float in any case"
        " (onnxruntime, with data)",
    )
    fallback: bool = Field(
        True, description="whether layers that lose too much stay float, and tables in INT4 that do stay INT8"
    )
    tolerance: float = Field(0.005, ge=0, description="drop of the metric on the selection split that calls for it")


def check(settings: StageSettings, goal: Goal) -> None:
    settings = cast("QuantizeSettings", settings)
    if settings.float_share:
        _check_int8(settings, goal)
    if goal.format == "tflite":
        refuse_onnx_choices(
            engine=settings.engine,
            scheme=settings.scheme,
            reduce_range=settings.reduce_range,
            embeddings=settings.embeddings,
            smooth=str(settings.smooth),
            equalize=str(settings.equalize).lower(),
        )
        resolve_method(settings.method, goal.target, goal.runtime)
        return
    scheme = scheme_for(settings, goal.target)
    if settings.smooth != "none" or settings.equalize:
        _check_rescaling(settings, scheme.method)
    if settings.engine == ONNXRUNTIME:
        return
    method = settings.method
    if settings.engine == neural_compressor.NAME and method not in ("auto", "static"):
        raise UsageError(
            f"quantize.method={method} cannot go with quantize.engine={settings.engine}",
            id="usage.settings-conflict",
            why="neural-compressor's dynamic INT8 does not export to ONNX, and its FP16 is for graphics cards",
            hint="Use --set quantize.method=static, or leave the method to auto.",
        )
    neural_scheme(settings, goal.target)
    neural_compressor.require()


def _check_int8(settings: QuantizeSettings, goal: Goal) -> None:
    """Refuse a share of layers in float where no layers are chosen for INT8."""
    method = "" if goal.format == "tflite" else scheme_for(settings, goal.target).method
    if method in ("dynamic", "static") and settings.engine == ONNXRUNTIME:
        return
    other = f"the format {goal.format}" if not method else f"quantize.method={method}"
    if method and settings.engine != ONNXRUNTIME:
        other = f"quantize.engine={settings.engine}"
    raise UsageError(
        f"quantize.float_share={settings.float_share:g} cannot go with {other}",
        id="usage.settings-conflict",
        why="it leaves layers out of INT8 as onnxruntime's tools make it",
        hint="Leave quantize.float_share away.",
    )


def _check_rescaling(settings: QuantizeSettings, method: str) -> None:
    """Refuse what is for INT8 of onnxruntime's where another quantizer, or another method, was asked for."""
    asked = f"quantize.smooth={settings.smooth}" if settings.smooth != "none" else "quantize.equalize=true"
    other = f"engine={settings.engine}" if settings.engine != ONNXRUNTIME else f"method={method}"
    if settings.engine != ONNXRUNTIME or method not in ("dynamic", "static"):
        raise UsageError(
            f"{asked} cannot go with quantize.{other}",
            id="usage.settings-conflict",
            why="it prepares weights and activations for INT8 as onnxruntime's tools make it",
            hint=f"Leave quantize.{asked.partition('.')[2].partition('=')[0]} away, or use the engine onnxruntime with "
            "quantize.method=static or dynamic.",
        )


def scheme_for(settings: QuantizeSettings, target: Target, *, convolutional: bool = False) -> Scheme:
    scheme = resolve_scheme(settings.method, settings.scheme, settings.embeddings, target, convolutional=convolutional)
    return _ranged(scheme, settings)


def _ranged(scheme: Scheme, settings: QuantizeSettings) -> Scheme:
    """With weights of 7 or 8 bits where the user said so."""
    if settings.reduce_range == "auto":
        return scheme
    return scheme.model_copy(update={"reduce_range": settings.reduce_range == "always"})


def neural_scheme(settings: QuantizeSettings, target: Target, *, convolutional: bool = False) -> Scheme:
    """What neural-compressor is asked for: the same scheme, static; its weights are always s8."""
    scheme = resolve_scheme("static", settings.scheme, settings.embeddings, target, convolutional=convolutional)
    if scheme.weights != "s8":
        raise UsageError(
            f"quantize.scheme={settings.scheme} cannot go with quantize.engine={settings.engine}",
            id="usage.settings-conflict",
            why="neural-compressor makes weights s8",
            hint="Use --set quantize.scheme=u8s8, or --set quantize.engine=onnxruntime.",
        )
    return _ranged(scheme, settings)


def needs_data(settings: StageSettings, goal: Goal) -> bool:
    settings, target = cast("QuantizeSettings", settings), goal.target
    if goal.format == "tflite":
        return resolve_method(settings.method, goal.target, goal.runtime) == "static"
    if settings.engine != ONNXRUNTIME or settings.smooth != "none" or settings.float_share:
        return True
    return scheme_for(settings, target).method == "static"


def precision_of(settings: StageSettings, goal: Goal) -> Precision:
    settings = cast("QuantizeSettings", settings)
    if goal.format == "tflite":
        return "fp16" if settings.method == "fp16" else "int8"
    halved = settings.engine == ONNXRUNTIME and scheme_for(settings, goal.target).method == "fp16"
    return "fp16" if halved else "int8"
