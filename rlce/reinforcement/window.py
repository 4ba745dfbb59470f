"""Episodes in a window, with pygame, an optional dependency (``pip install 'rlce[watch]'``)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from rlce.reinforcement import pictures
from rlce.reinforcement.recording import Playback, Shown

_HOLD = 1.5  # seconds that the end of an episode stays


def check() -> None:
    """Check that a window can be opened, before anything is played.

    Without a display, SDL draws into memory that nobody sees; that is refused, unless the environment variable
    SDL_VIDEODRIVER asks for it.

    Raises:
        ModuleNotFoundError: pygame is not installed.
        OSError: there is no display.
    """
    pictures.check_installed("pygame")
    import pygame

    try:
        pygame.display.init()
        driver = pygame.display.get_driver()
    except pygame.error as error:
        raise _no_display(str(error)) from error
    finally:
        pygame.display.quit()
    if driver in ("offscreen", "dummy") and "SDL_VIDEODRIVER" not in os.environ:
        raise _no_display(f"SDL found only its driver {driver!r}")


def show(playback: Playback, shown: Sequence[Shown], width: int | None) -> bool:
    """Show episodes one after the other, at the environment's speed; Escape, Q or closing the window ends it.

    Args:
        playback: plays them.
        shown: which ones.
        width: of the picture, in pixels; None for the environment's own.

    Returns:
        True if all were shown to the end.
    """
    import pygame

    pygame.display.init()
    try:
        pygame.display.set_caption("rlce")
        clock, screen = pygame.time.Clock(), None
        for episode in shown:
            for frame in playback.frames(episode, range(episode.length + 1)):
                picture = pictures.captioned(frame, width)
                if screen is None or screen.get_size() != picture.size:
                    screen = pygame.display.set_mode(picture.size)
                screen.blit(pygame.image.frombuffer(picture.tobytes(), picture.size, "RGB"), (0, 0))
                pygame.display.flip()
                for _ in range(round(_HOLD * playback.rate) if frame.last else 1):
                    clock.tick(playback.rate)
                    if any(map(_ends, pygame.event.get())):
                        return False
    finally:
        pygame.display.quit()
    return True


def _ends(event: Any) -> bool:
    import pygame

    return event.type == pygame.QUIT or (event.type == pygame.KEYDOWN and event.key in (pygame.K_ESCAPE, pygame.K_q))


def _no_display(why: str) -> OSError:
    return OSError(
        f"no window can be opened, because there is no display ({why}): --gif FILE.gif writes a file instead"
    )
