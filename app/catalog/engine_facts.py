"""What a catalogue entry says about its engine: architecture, options, upscaler."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class StrictTable(BaseModel):
    """A strict, immutable table of a catalogue file: a misspelt key is an error, not a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Architecture(StrictTable):
    """The sizes of a model's parts, for predicting memory and arithmetic before anything is loaded."""

    dim: int = Field(gt=0, description="Width of the transformer.")
    ffn_dim: int = Field(gt=0, description="Inner width of its feed-forward layers.")
    layers: int = Field(gt=0)
    transformer_params: int = Field(gt=0, description="Parameters of one transformer (two-expert models have two).")
    full_params: int = Field(0, ge=0, description="Those of them that stay in float32 whatever their dtype.")
    text_params: int = Field(gt=0, description="Parameters of the text encoders.")
    text_dim: int = Field(gt=0, description="Width of the text encoder's output.")
    vae_params: int = Field(gt=0)
    vae_base_dim: int = Field(gt=0, description="Base channels of the VAE decoder.")
    image_params: int = Field(0, ge=0, description="Parameters of the picture encoder (Wan 2.1 I2V only).")
    latent_channels: int = Field(gt=0)
    spatial_scale: int = Field(gt=0, description="Pixels per latent cell, along one side.")
    temporal_scale: int = Field(4, gt=0, description="Frames per latent frame, after the first.")
    patch: int = Field(2, gt=0, description="Latent cells per token, along one side.")
    weight_bytes: int = Field(2, gt=0, description="Bytes per parameter of transformer and text encoder.")


class EngineOptions(StrictTable):
    """How a model is run. The defaults change no frame; a lossy switch belongs into an entry of its own (`…-turbo`)."""

    attention: str = Field("auto", description="Attention backend of diffusers; `auto` probes the lossless ones.")
    compile: bool = Field(False, description="Regional compile of the transformer blocks, on CUDA.")
    quick_vae: bool = Field(True, description="Faster kernels for the VAE; exact up to float32 rounding.")
    uniform_timestep: bool = Field(
        True, description="One timestep instead of equal ones per token; exact up to rounding."
    )
    trim_text: bool = Field(
        True, description="Kandinsky only: cut the text's padding instead of masking it; exact up to rounding."
    )
    cfg_batch: bool = Field(False, description="Run the prompted and the unprompted pass as one batch of two.")
    offload: Literal["none", "model"] = Field("none", description="Move parts to the GPU only while they work.")
    vae_dtype: Literal["float32", "bfloat16"] = "float32"
    transformer_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    checkpoint_seconds: float = Field(20.0, ge=0, description="Least pause between two checkpoints, in seconds.")
    preview_steps: int = Field(1, ge=0, description="A preview each so many steps; 0 makes none.")
    first_block_cache: float = Field(0.0, ge=0, le=1, description="Lossy: threshold of the first-block cache.")
    lora: str = Field("", description="Lossy: hub id or folder of a few-step LoRA, merged at load.")
    lora_file: str = Field("", description="File name of the LoRA's weights inside `lora`.")
    step_seconds: float = Field(0.0, ge=0, description="Synthetic only: pretended duration of a step, in seconds.")

    @property
    def lossy(self) -> bool:
        """Whether a switch changes the frames that the model would make without it."""
        return self.first_block_cache > 0 or bool(self.lora)


class UpscalerSpec(StrictTable):
    """A network behind the decoder that draws each frame larger, and further frames between the model's own."""

    scale: int = Field(gt=1, multiple_of=2, description="Drawn pixels per native pixel, along one side.")
    pace: int = Field(gt=0, description="Drawn frames per native frame; `fps` counts the drawn ones.")
