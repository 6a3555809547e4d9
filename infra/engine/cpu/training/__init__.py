"""How did the demo model come to be?  Tools that run in SGLang's environment, where torchvision imports only after the plug-in."""

import tramontane_cpu

tramontane_cpu.activate()
