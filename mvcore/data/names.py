"""Which names modalities and covariates may have: they become keys of modules, file names and lines of a terminal."""

from __future__ import annotations

import unicodedata
from typing import Any

from attrs import Attribute

from mvcore.errors import DataError

#: Longest name, in bytes of UTF-8 as a file name has them; file systems allow 255 with an ending.
LONGEST = 200
_WINDOWS = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)), "conin$", "conout$"]
)
_NO_FILE = '/\\<>:"|?*%'
_NAMES = """
T_destination add_module append apply bfloat16 buffers call_super_init children clear compile cpu cuda double
dump_patches eval extend extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half
insert ipu items keys load_state_dict modules mtia named_buffers named_children named_modules named_parameters
parameters pop register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook
register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook
register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory state_dict to to_empty
train training type update values xpu zero_grad _apply _call_impl _parameters _buffers _modules
_non_persistent_buffers_set _backward_pre_hooks _backward_hooks _is_full_backward_hook _forward_hooks
_forward_hooks_with_kwargs _forward_hooks_always_called _forward_pre_hooks _forward_pre_hooks_with_kwargs
_state_dict_hooks _state_dict_pre_hooks _load_state_dict_pre_hooks _load_state_dict_post_hooks
_compiled_call_impl _get_backward_hooks _get_backward_pre_hooks _get_name _load_from_state_dict
_maybe_warn_non_full_backward_hook _named_members _register_load_state_dict_pre_hook _register_state_dict_hook
_replicate_for_data_parallel _save_to_state_dict _slow_forward _version _wrapped_call_impl
"""
#: What torch's containers of modules have as attributes, and so no module in them may be called.
_TORCH = frozenset(_NAMES.split())


def modality_name(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    """Raises a DataError for a name that can be no key of a module, or no file name."""
    _check(f"A modality can't be called {_shown(value)}", value)
    if value in _TORCH or "." in value or (value.startswith("__") and value.endswith("__") and len(value) > 4):
        raise DataError(f"A modality can't be called {value!r}: torch keeps the name for itself. Rename it.")
    outside = value[0] in "/\\" or any(part.strip() == "" for part in value.replace("\\", "/").split("/"))
    if outside or value != value.strip() or value.lower() in _WINDOWS:
        raise DataError(
            f"A modality can't be called {value!r}: its name becomes that of a file, and this one is a path, is kept "
            "by Windows, or begins or ends with a space. Rename it."
        )


def covariate_name(instance: Any, attribute: Attribute[Any], value: Any) -> None:
    """Raises a DataError for a name that is no text, empty, too long, or has control characters."""
    _check(f"A covariate can't be called {_shown(value)}", value)


def file_name(name: str) -> str:
    """The name of a modality as that of a file, on any system: what is kept for paths is written as ``%2F``."""
    return "".join(f"%{ord(c):02X}" if c in _NO_FILE else c for c in name)


def _check(what: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise DataError(f"{what}: names are text, of one character at least.")
    if bad := [c for c in value if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]:
        raise DataError(f"{what}: it has the control character {bad[0]!a}. Rename it.")
    if (size := len(file_name(value).encode())) > LONGEST:
        raise DataError(f"{what}: it has {size} bytes; names have {LONGEST} at most.")


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
