'''The database layer: one engine, one unit of work, compare-and-set, migrations.

How a domain plugs in
=====================
A domain is a folder with these files, from the ground up:

``tables.py``
    Rows, as subclasses of :class:`Base`. Every table has ``org_id``. Times are :class:`UtcDateTime`, ids are
    strings from :func:`new_id`. Import the module in ``db/schema.py``. A migration of its own in
    ``db/migrations/versions`` creates the tables (``v0003_rounds.py`` with ``revision = "0003_rounds"`` and
    ``down_revision`` naming the one before); a test compares migrations with models.
``repository.py``
    A class that takes ``(session, org_id)`` and holds every statement of the domain. Each statement is
    restricted to ``org_id``. It returns frozen records, never rows, and it never commits. A change of state
    is one :func:`compare_and_set`.
``rules.py``
    Pure decisions on values.
``service.py``
    Functions whose first argument is the :class:`UnitOfWork` (to write) or the ``Session`` (to read):
    load facts, decide, apply. They raise :mod:`edgeml_server.errors`. They never commit.
``endpoints.py``
    A FastAPI router. An endpoint is the boundary: it opens the unit of work, calls the service, answers::

        @router.post("/widgets", status_code=201)
        def create(body: NewWidget, plane: Plane, operator: ModelOperator, call: IdempotentCall) -> Widget:
            """Create a widget."""
            now = plane.clock.now()
            with plane.database.unit_of_work() as work:
                create = partial(service.create_widget, work, operator.org_id, body, now=now)
                return once(work, operator.org_id, call, Widget, create, now=now)


        DOMAIN: Final = Domain(routers=(router,))

    ``DOMAIN`` is listed in ``edgeml_server/app.py``. A keeper is a background worker with ``start()`` and
    ``close()``, made with the control plane. The ``__init__.py`` of a domain imports nothing: tables can be
    imported without endpoints.

Reading and writing
===================
``with database.unit_of_work() as work`` begins a write; leaving the block commits, an exception rolls back.
On SQLite it holds the process's one write lock and begins with ``BEGIN IMMEDIATE``, so keep it short, and
never open one inside another (it raises). ``work.after_commit(action)`` runs ``action`` once the change is
durable: wake a waiter there. ``with database.snapshot() as session`` reads, and discards what is written.

An ``async def`` endpoint must not do either on the event loop: use ``asyncio.to_thread``.

To refuse *and* keep a change (a re-used token revokes its family), return the refusal from the block, and
raise after it.
'''

from edgeml_server.db.cas import compare_and_set
from edgeml_server.db.database import Database, UnitOfWork
from edgeml_server.db.tables import Base, UtcDateTime, new_id

__all__ = ["Base", "Database", "UnitOfWork", "UtcDateTime", "compare_and_set", "new_id"]
