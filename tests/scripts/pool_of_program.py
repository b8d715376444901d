"""A program with a process pool of its own that runs nodes and flows: `pool_of_program.py WAY`."""

import concurrent.futures
import copy
import multiprocessing
import pickle
import sys
from typing import Any

import railtracks as rt


@rt.function_node
def square(number: int) -> int:
    return number * number


class Shop:
    def __init__(self, price: int) -> None:
        self.price = price

    @rt.function_node
    def total(self, count: int) -> int:
        return self.price * count

    @classmethod
    @rt.function_node
    def name(cls, count: int) -> str:
        return cls.__name__ * count


class Stall(Shop):
    pass


flow = rt.Flow("flow", square, save_state=False)


def main() -> None:
    context = multiprocessing.get_context(sys.argv[1])
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        work: list[Any] = [square, flow.invoke, Shop(3).total, Stall.name]
        assert [pool.submit(each, 2).result(60) for each in work] == [4, 4, 6, "StallStall"]
        assert pool.submit(copy.copy, square).result(60) is square
        try:
            pool.submit(rt.Flow("local", square).invoke, 2).result(60)
        except pickle.PicklingError as error:
            assert "assign it to a variable" in str(error)  # noqa: PT017 - no test function
        else:
            raise AssertionError("a flow in no variable was pickled")


if __name__ == "__main__":
    main()
