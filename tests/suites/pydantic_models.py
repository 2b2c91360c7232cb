"""pydantic-core: models validated from Python and JSON, dumped, and refused, always alike."""

import random
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Literal, Optional, Union

from churn import repeat
from pydantic import BaseModel, Field, ValidationError, field_validator


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, Field(ge=1, le=9)]


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Line(BaseModel):
    sku: str
    price: Decimal
    count: int = 1
    tags: set[str] = set()

    @field_validator("sku")
    @classmethod
    def upper(cls, sku):
        return sku.upper()


class Order(BaseModel):
    at: datetime
    lines: list[Line]
    pets: list[Annotated[Union[Cat, Dog], Field(discriminator="kind")]]
    notes: dict[str, Optional[float]]
    before: Optional["Order"] = None


def order(n, depth=1):
    chance = random.Random(n)
    return {
        "at": (datetime(2020, 1, 1) + timedelta(seconds=chance.randrange(10**8))).isoformat(),
        "lines": [
            {"sku": chance.randbytes(5).hex(), "price": str(chance.randrange(10**4)), "tags": [str(i)]}
            for i in range(25)
        ],
        "pets": [{"kind": "cat", "lives": i % 9 + 1} for i in range(10)] + [{"kind": "dog", "name": "n"}],
        "notes": {chance.randbytes(4).hex(): chance.random() for _ in range(30)},
        "before": order(n + 1, depth - 1) if depth else None,
    }


def make(n):
    made = Order.model_validate(order(n))
    again = Order.model_validate_json(made.model_dump_json())
    assert made == again
    wrong = order(n)
    wrong["pets"][0]["lives"] = 10
    try:
        Order.model_validate(wrong)
    except ValidationError as error:
        assert error.error_count() == 1
    else:
        raise SystemExit("ten lives were admitted")
    return again


repeat(make, lambda made: made.model_dump_json().encode() + repr(made).encode())
