"""`parcels schemas`: check the Avro schemas and lock their versions."""

import json

import typer

from streams.cli.options import EXIT_DIFFERENCES, Json

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="""Check and lock the Avro schemas, after an edit of one.

    Every version of a schema must be able to read the records of every other version. schemas/ids.json, the lock file,
    lists all versions and their ids.
    """,
)


@app.command()
def check(as_json: Json = False) -> None:
    """Check every schema against all of its versions.

    Each version must read the records of each other one. The ids must be the locked ones, every field must have a doc,
    and no record type may contain itself. Exit code 1: a check failed.

    Examples:
      parcels schemas check
    """
    from streams.formats.schema_compatibility import check_schemas
    from streams.formats.schemas import read_lock_file, schemas_folder

    folder = schemas_folder()
    problems = check_schemas(folder)
    versions = read_lock_file(folder)
    if as_json:
        rows = [{"id": version.id, "name": version.name, "version": version.number} for version in versions]
        print(json.dumps({"ok": not problems, "schemas": rows, "problems": problems}, indent=2))
    else:
        for problem in problems:
            print(problem)
        if not problems:
            names = len({version.name for version in versions})
            print(f"{names} schemas in {len(versions)} versions: all versions of a schema can read each other")
    if problems:
        raise typer.Exit(EXIT_DIFFERENCES)


@app.command()
def lock() -> None:
    """Lock every new or edited schema as its next version.

    First edit schemas/NAME.avsc. Then run this, which gives the version an id, or fails with the reason why the edit is
    not compatible. Commit the schema, schemas/ids.json and schemas/history/ together.

    Examples:
      parcels schemas lock
    """
    from streams.formats.schema_compatibility import lock_schemas
    from streams.formats.schemas import schemas_folder

    added = lock_schemas(schemas_folder())
    for version in added:
        print(f"{version.name} version {version.number} has id {version.id}: schemas/{version.history_file}")
    if not added:
        print("all schemas are locked already")
