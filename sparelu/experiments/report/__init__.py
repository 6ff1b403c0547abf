"""The HTML report of a run, a sweep, or several networks.

Read ``run_report``, ``sweep_report`` and ``board`` first: each joins sections of ``charts``, ``tables``,
``pixel_maps``, ``function_chart``, ``compression_curve``, ``live_network`` and ``network_drawing``; ``html`` makes the
page.
"""
