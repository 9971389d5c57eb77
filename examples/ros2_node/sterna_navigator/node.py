"""The node: topics in, topics out; everything else is in `guide` and `translate`.

in   instruction   std_msgs/String               what to do
     odom          nav_msgs/Odometry             where the robot is, in the frame of the map
     views         std_msgs/Float32MultiArray    features of the views, [V, F]
     reachable     geometry_msgs/PoseArray       places that can be driven to from here in one go
     goal_failed   std_msgs/Empty                the goal cannot be reached
out  look          std_msgs/Empty                now send views and reachable
     goal_pose     geometry_msgs/PoseStamped     drive there (Nav2 listens to it)
     decision      std_msgs/String               every decision, as JSON
"""

from __future__ import annotations

from typing import Any

from sterna.edge.runtime import Engine, Navigator
from sterna.errors import InputError
from sterna_navigator import translate
from sterna_navigator.guide import Guide, Thinker
from sterna_navigator.remote import Remote

PARAMETERS: dict[str, Any] = {
    "folder": "",  # an exported folder, to think here
    "engine": "onnx",
    "url": "",  # or a service, to think there
    "token": "",
    "frame": "map",
    "radius": 0.5,
    "tolerance": 0.4,
}


def thinker_of(values: dict[str, Any]) -> Thinker:
    """Return who decides: a service where a `url` is given, else the folder's own runtime."""
    if values["url"]:
        return Remote(values["url"], values["token"] or None)
    if values["folder"]:
        return Navigator(Engine.open(values["folder"], values["engine"]))
    raise InputError("navigator: give the parameter folder (an export) or url (sterna serve)")


class Topics:
    """Callbacks of the node. `publish` maps "look", "goal" and "decision" to what sends them."""

    def __init__(self, guide: Guide, publish: dict[str, Any], warn: Any) -> None:
        """Lead a guide by topics; `warn` is told of messages that do not fit."""
        self.guide, self.publish, self.warn = guide, publish, warn

    def instruction(self, message: Any) -> None:
        """Begin."""
        self._try(self.guide.instruct, message.data)
        self._tell()

    def odom(self, message: Any) -> None:
        """The robot moved."""
        if self.guide.moved(translate.pose_of(message.pose.pose)):
            self._tell()

    def views(self, message: Any) -> None:
        """A look arrived."""
        self._decided(self._try(lambda: self.guide.views(translate.views_of(message))))

    def reachable(self, message: Any) -> None:
        """Ways arrived."""
        self._decided(self._try(self.guide.ways, translate.ways_of(message)))

    def goal_failed(self, _: Any) -> None:
        """The robot could not get there."""
        self.guide.blocked()
        self._tell()

    def _try(self, act: Any, *arguments: Any) -> Any:
        try:
            return act(*arguments)
        except ValueError as error:  # InputError among them: the message is at fault
            self.warn(str(error))
            return None

    def _decided(self, decision: Any) -> None:
        if decision is not None:
            self.publish["decision"](translate.decision_text(decision))
            self._tell()

    def _tell(self) -> None:
        if self.guide.state == "looking":
            self.publish["look"]()
        elif self.guide.goal is not None:
            self.publish["goal"](self.guide.goal, self.guide.next_heading)


def main() -> None:
    """Run the node."""
    import rclpy
    from geometry_msgs.msg import PoseArray, PoseStamped
    from nav_msgs.msg import Odometry
    from std_msgs.msg import Empty, Float32MultiArray, String

    rclpy.init()
    node = rclpy.create_node("sterna_navigator")
    values = {k: node.declare_parameter(k, v).value for k, v in PARAMETERS.items()}
    look = node.create_publisher(Empty, "look", 1)
    goal = node.create_publisher(PoseStamped, "goal_pose", 1)
    decision = node.create_publisher(String, "decision", 10)

    def send_goal(position: Any, heading: float) -> None:
        message = translate.fill_pose(PoseStamped(), position, heading, values["frame"])
        message.header.stamp = node.get_clock().now().to_msg()
        goal.publish(message)

    publish = {
        "look": lambda: look.publish(Empty()),
        "goal": send_goal,
        "decision": lambda text: decision.publish(String(data=text)),
    }
    guide = Guide(thinker_of(values), radius=values["radius"], tolerance=values["tolerance"])
    topics = Topics(guide, publish, node.get_logger().warning)
    for kind, name in (
        (String, "instruction"),
        (Odometry, "odom"),
        (Float32MultiArray, "views"),
        (PoseArray, "reachable"),
        (Empty, "goal_failed"),
    ):
        node.create_subscription(kind, name, getattr(topics, name), 10)
    try:
        rclpy.spin(node)
    finally:
        node.destroy_node()
        rclpy.shutdown()


if __name__ == "__main__":
    main()
