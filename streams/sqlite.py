"""What SQLite does otherwise than other databases: it locks no rows, and its driver opens transactions late."""

from typing import Any

from sqlalchemy import Connection


def take_write_lock(connection: Connection) -> None:
    """Take SQLite's one write lock for the connection's transaction, unless that is open already; waits for others.

    Does nothing for any other database.
    """
    if connection.dialect.name != "sqlite":
        return
    driver: Any = connection.connection.driver_connection
    if not driver.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
