"""A checkpoint with the text and the eyes of Mistral Small 3.1, and next to no weights: SGLang counts with it as with the real one.

Its `tokenizer.json` is the published one (test_mistral_tokenizer.py); its settings are those of the published folders that decide
how text and images are read.  The engine makes the weights up: nothing it says means anything.
"""

import json

from infra.engine.mistral_tokenizer import tekken

OLD = {"transformers_version": "4.50.0", "torch_dtype": "bfloat16"}  # older than 5: as published, so read as published
TEXT = {
    "model_type": "mistral",
    "vocab_size": 131_072,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 32_768,
    "rope_theta": 100_000_000.0,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EYES = {
    "model_type": "pixtral",
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "head_dim": 64,
    "hidden_act": "gelu",
    "image_size": 1540,
    "num_channels": 3,
    "patch_size": 14,
    "rope_theta": 10_000.0,
}
WITHOUT_EYES = {"architectures": ["MistralForCausalLM"], **TEXT, **OLD}
WITH_EYES = {
    "architectures": ["Mistral3ForConditionalGeneration"],
    "model_type": "mistral3",
    "image_token_index": 10,
    "multimodal_projector_bias": False,
    "projector_hidden_act": "gelu",
    "spatial_merge_size": 2,
    "vision_feature_layer": -1,
    "text_config": TEXT,
    "vision_config": EYES,
    **OLD,
}
TOKENIZER = {
    "tokenizer_class": "LlamaTokenizer",
    "add_bos_token": True,
    "add_eos_token": False,
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "clean_up_tokenization_spaces": False,
    "legacy": True,
}
PREPROCESSOR = {
    "image_processor_type": "PixtralImageProcessor",
    "processor_class": "PixtralProcessor",
    "patch_size": {"height": 14, "width": 14},
    "size": {"longest_edge": 1540},
}
PROCESSOR = {
    "processor_class": "PixtralProcessor",
    "image_token": "[IMG]",
    "image_break_token": "[IMG_BREAK]",
    "image_end_token": "[IMG_END]",
    "patch_size": 14,
    "spatial_merge_size": 2,
}


def write(folder, *, sees_images):
    files = {"config.json": WITH_EYES if sees_images else WITHOUT_EYES, "tokenizer_config.json": TOKENIZER}
    if sees_images:
        files |= {"preprocessor_config.json": PREPROCESSOR, "processor_config.json": PROCESSOR}
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value), encoding="utf-8")
    tekken().save(str(folder / "tokenizer.json"))
