"""What zk-shell needs and Python no longer has: xcmd takes strtobool from distutils, which went with Python 3.12."""

import sys
import types

if sys.version_info >= (3, 12):

    def strtobool(text):
        if text in ("y", "yes", "t", "true", "on", "1"):
            return 1
        if text in ("n", "no", "f", "false", "off", "0"):
            return 0
        raise ValueError(f"neither yes nor no: {text!r}")

    util = types.ModuleType("distutils.util")
    util.strtobool = strtobool
    package = types.ModuleType("distutils")
    package.util = util
    sys.modules.update({"distutils": package, "distutils.util": util})
