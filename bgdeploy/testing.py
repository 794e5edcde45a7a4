"""For a site's own tests: proof that the old code and the new one can read at every moment of a migration.

    from bgdeploy.testing import readable_throughout
    readable_throughout("migrations/orders_customer.py", database, {"orders": [...]}, {"1.0.0": read_old, "2.0.0": read_new})

`database` is an empty one of pymongo, for a test: everything in the collections named is replaced.
"""

from bgdeploy.outside.migration_writes import Halted, Progress, Watched
from bgdeploy.outside.migration_files import call, load


def readable_throughout(path, database, documents, readers):
    """Carries a migration out, one document at a time, and lets every reader read after every single write.

    :param path: of the migration's file. :param documents: {collection: [documents as the old code wrote them]}.
    :param readers: {name: (database) -> what that code understands}; equal values before, at every moment, and afterwards.
    :raises AssertionError: a reader raised or understood something else; says which, after how many writes. Also where a
        REPEATABLE migration, stopped after any write and begun again, ends in other documents than an undisturbed one.
    :returns: the number of writes after which was read.
    """
    migration = load(path)
    assert documents and all(documents.values()), "without documents nothing is proved"
    _fill(database, documents)
    expected = {name: _read(migration, name, reader, database, 0) for name, reader in readers.items()}
    writes = []

    def look():
        writes.append(1)
        for name, reader in readers.items():
            understood = _read(migration, name, reader, database, len(writes))
            assert understood == expected[name], (
                f"{migration.name}: after {len(writes)} writes {name} understands {understood!r}, "
                f"before it was {expected[name]!r}")
    _carry_out(migration, database, look)
    assert writes, f"{migration.name}: it wrote nothing to these documents"
    _checked(migration, database)
    if migration.repeatable:
        _repeat(migration, database, documents, len(writes), _all(database, documents))
    return len(writes)


def _repeat(migration, database, documents, writes, right):
    """Stopped after each write in turn, then begun anew."""
    for number in range(1, writes + 1):
        _fill(database, documents)
        left = [number]

        def count():
            left[0] -= 1
        try:
            _carry_out(migration, database, count, stop=lambda: left[0] <= 0)
        except Halted:
            _carry_out(migration, database, lambda: None)
        else:
            _carry_out(migration, database, lambda: None)       # it had ended already: a second time must do no harm, too
        there = _all(database, documents)
        assert there == right, f"{migration.name}: stopped after {number} writes and begun again, the documents differ: {there!r}"


def _carry_out(migration, database, wrote, stop=lambda: False):
    """The whole `up`, in batches of one document."""
    progress = _OneByOne(lambda values: True, lambda: True, stop, repeatable=migration.repeatable, wrote=wrote)
    watched = Watched(database.client, database.name, progress)
    call(migration.module.up, watched, progress)


class _OneByOne(Progress):
    """Moments inside a batch are moments, too."""

    def batches(self, collection, query, change, size=100, per_second=None, pause=0.0):
        return super().batches(collection, query, change, size=1)


def _fill(database, documents):
    for name, given in documents.items():
        database[name].delete_many({})
        database[name].insert_many([dict(document) for document in given])


def _all(database, documents):
    return {name: sorted(database[name].find(), key=lambda document: str(document["_id"])) for name in documents}


def _read(migration, name, reader, database, writes):
    try:
        return reader(database)
    except Exception as trouble:            # whatever a reader cannot read is what is looked for here
        raise AssertionError(f"{migration.name}: after {writes} writes {name} cannot read: "
                             f"{type(trouble).__name__}: {trouble}") from trouble


def _checked(migration, database):
    if hasattr(migration.module, "check"):
        said = migration.module.check(database)
        assert said is None or said is True, f"{migration.name}: its check says {said!r}"
    if hasattr(migration.module, "count"):
        left = migration.module.count(database)
        assert left == 0, f"{migration.name}: afterwards {left} documents are still to change"
