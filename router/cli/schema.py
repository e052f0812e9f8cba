"""edge911 schema: the JSON Schema of the configuration, for editors."""

import typer


def register(app: typer.Typer) -> None:
    """Add the `schema` command."""

    @app.command()
    def schema() -> None:
        """Print the JSON Schema of edge911.yaml.

        Editors that know yaml-language-server complete keys and underline mistakes with it.

        \b
        Once:
          edge911 schema > edge911.schema.json
        and as the first line of edge911.yaml:
          # yaml-language-server: $schema=edge911.schema.json
        """
        from config.json_schema import schema_text

        typer.echo(schema_text(), nl=False)
