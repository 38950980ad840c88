"""`parcels schemas`: the lock of the Avro schemas."""

import json

import typer

from streams.cli.options import EXIT_DIFFERENCES, Json

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Check that every schema can read everything ever written, and lock edits as new versions.",
)


@app.command()
def check(as_json: Json = False) -> None:
    """Check every schema against all its versions, in both directions; exit 1 when something is wrong.

    Also checks that ids are the ones that were locked, that every field has a doc, and that no record holds itself.

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
            print(f"{names} schemas in {len(versions)} versions: each can read every other version of itself")
    if problems:
        raise typer.Exit(EXIT_DIFFERENCES)


@app.command()
def lock() -> None:
    """Give every new or edited schema its next version and an id, or refuse and say why.

    Edit schemas/NAME.avsc, run this, and commit the file, schemas/ids.json and schemas/history/ together.

    Examples:
      parcels schemas lock
    """
    from streams.formats.schema_compatibility import lock_schemas
    from streams.formats.schemas import schemas_folder

    added = lock_schemas(schemas_folder())
    for version in added:
        print(f"{version.name} version {version.number} has id {version.id}: schemas/{version.history_file}")
    if not added:
        print("every schema is locked already")
