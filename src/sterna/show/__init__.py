"""What the agent did: pictures of episodes, and videos of those in continuous space."""

from sterna.show.continuous import draw_recording
from sterna.show.episode import draw_episode, episode_scene
from sterna.show.recording import Recording, record

__all__ = ["Recording", "draw_episode", "draw_recording", "episode_scene", "record"]
