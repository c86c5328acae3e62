"""Shapes in annotations: `Float[Tensor, "B K"]`. jaxtyping checks them in the tests; without it
they are words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Int8, Shaped, UInt8
else:
    try:
        from jaxtyping import Bool, Float, Int, Int8, Shaped, UInt8
    except ImportError:

        class Shaped:
            """Stands for the array type itself."""

            def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
                return item[0]

        Bool = Float = Int = Int8 = UInt8 = Shaped

__all__ = ["Bool", "Float", "Int", "Int8", "Shaped", "UInt8"]
