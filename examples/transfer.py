"""Conditional and atomic writes: money moves between two accounts, or it does not."""

import asyncio

import streamkit
from streamkit import TransactionCanceledError, Update, attribute


async def main() -> None:
    async with streamkit.open("memory:") as kit:
        accounts = await kit.create_table("accounts", partition_key="owner")
        await accounts.put({"owner": "ada", "balance": 100}, condition=attribute("owner").absent())
        await accounts.put({"owner": "bob", "balance": 0})

        for amount in (70, 70):
            try:
                await kit.write(
                    Update(
                        key={"owner": "ada"},
                        add={"balance": -amount},
                        condition=attribute("balance") >= amount,
                        table="accounts",
                    ),
                    Update(key={"owner": "bob"}, add={"balance": amount}, table="accounts"),
                )
                print(f"moved {amount}")
            except TransactionCanceledError as refused:
                print(f"not moved: {refused}")

        print([(item["owner"], item["balance"]) async for item in accounts.scan()])


if __name__ == "__main__":
    asyncio.run(main())
