"""A rule whose output is a directory, with a link in it."""

def _tree_impl(ctx):
    out = ctx.actions.declare_directory(ctx.label.name)
    ctx.actions.run_shell(
        outputs = [out],
        arguments = [out.path],
        command = "mkdir -p $1/sub && echo one > $1/a && echo two > $1/sub/b && ln -s a $1/link",
    )
    return [DefaultInfo(files = depset([out]), runfiles = ctx.runfiles([out]))]

tree = rule(implementation = _tree_impl)
