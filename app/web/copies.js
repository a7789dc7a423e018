// A phone's photo has many more pixels than a map needs, and is sent once for each map.

const SIDE = 2048; // pixels of a copy's longer side: more than any screen gives the photo here
const made = new WeakMap();

// Resolves to a copy of the photo, or to the photo itself when that is small or the browser cannot show it.
export function smaller(photo) {
  if (!made.has(photo)) made.set(photo, shrink(photo).catch(() => photo));
  return made.get(photo);
}

async function shrink(photo) {
  const whole = await createImageBitmap(photo); // upright: it heeds the camera's note of how it was held
  const scale = SIDE / Math.max(whole.width, whole.height);
  if (scale >= 1 || forges()) {
    whole.close();
    return photo;
  }
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(whole.width * scale));
  canvas.height = Math.max(1, Math.round(whole.height * scale));
  const drawing = canvas.getContext("2d");
  drawing.imageSmoothingQuality = "high";
  drawing.drawImage(whole, 0, 0, canvas.width, canvas.height);
  whole.close();
  const copy = await new Promise((resolve) => canvas.toBlob(resolve, photo.type, 0.92));
  return copy && copy.size < photo.size ? copy : photo; // a browser that writes no WebP writes PNG
}

// Some browsers answer with noise, so that nobody is known again by how he draws. The photo itself they send.
function forges() {
  const drawing = document.createElement("canvas").getContext("2d");
  drawing.fillStyle = "rgb(18, 52, 86)";
  drawing.fillRect(0, 0, 1, 1);
  const [red, green, blue] = drawing.getImageData(0, 0, 1, 1).data;
  return red !== 18 || green !== 52 || blue !== 86;
}
