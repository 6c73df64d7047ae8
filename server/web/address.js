// The mount that this page shows, as its address names it: `/?mount=studio`, or the first one without a name.

/** Its name; null for the first mount. */
export const mount = new URLSearchParams(location.search).get("mount");

/** Returns the path of one of its streams. */
export const streamPath = (stream) => `${mount === null ? "" : `/mounts/${encodeURIComponent(mount)}`}/${stream}`;

/** Returns a path of the API that is about it. */
export const ofMount = (path) => (mount === null ? path : `${path}?mount=${encodeURIComponent(mount)}`);
