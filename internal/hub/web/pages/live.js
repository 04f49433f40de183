// SPDX-License-Identifier: Apache-2.0
// Shows what is new as soon as the hub says that there is something. Without it a page
// is as it was when it was loaded.
"use strict";
const events = new EventSource("/events");
events.onmessage = async () => {
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const now = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
  const was = document.querySelector("main");
  // What has the focus keeps it, and a table that was scrolled stays where it is.
  const focus = document.activeElement, place = focus && focus !== document.body && was.contains(focus) ? path(focus, was) : null;
  const scrolled = [...was.querySelectorAll(".wide")].map((e) => e.scrollLeft);
  was.replaceWith(now);
  now.querySelectorAll(".wide").forEach((e, i) => { e.scrollLeft = scrolled[i] || 0; });
  if (place) {
    const again = place.reduce((e, i) => e && e.children[i], now);
    if (again) again.focus({ preventScroll: true });
  }
};

// path is the way from an element down to one in it, by positions.
function path(element, top) {
  const way = [];
  for (let e = element; e !== top; e = e.parentElement) way.unshift([...e.parentElement.children].indexOf(e));
  return way;
}
