"""The ROS 2 package (ament_python)."""

from setuptools import setup

NAME = "sterna_navigator"

setup(
    name=NAME,
    version="0.1.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    entry_points={"console_scripts": [f"navigator = {NAME}.node:main"]},
)
