"""What the agent did: pictures of episodes."""

from sterna.show.episode import draw_episode, episode_scene

__all__ = ["draw_episode", "episode_scene"]
