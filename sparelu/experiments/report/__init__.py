"""The HTML report of a run, a sweep, or several networks.

Read ``run_report``, ``sweep_report`` and ``board`` first. The report of a run is made of ``sections``, of which
``section`` says what one is; they are drawn by ``charts``, ``tables``, ``pixel_maps``, ``function_chart``,
``compression_curve``, ``live_network`` and ``network_drawing``, and ``html`` makes the page.
"""
