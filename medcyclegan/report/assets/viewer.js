"use strict";
(async () => {
  const message = document.getElementById("viewer-message");
  const fail = (text) => { message.textContent = text; message.className = "warning"; };
  const volumes = JSON.parse(document.getElementById("volumes").textContent);
  if (!document.createElement("canvas").getContext("webgl2")) {
    fail("This browser has no WebGL 2, which the viewer needs. The picture below shows the same volumes.");
    return;
  }

  // Base 85 as in to_text in viewing.py: five characters for four bytes.
  const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%.()*+-;,=>?@^_`{|}~";
  const digits = new Uint8Array(128);
  [...alphabet].forEach((letter, n) => { digits[letter.charCodeAt(0)] = n; });
  const bytesOfText = (text) => {
    const bytes = new Uint8Array(Math.ceil(text.length / 5) * 4);
    for (let n = 0, at = 0; n < text.length; n += 5, at += 4) {
      let word = 0;
      for (let k = n; k < n + 5; k += 1) word = word * 85 + (k < text.length ? digits[text.charCodeAt(k)] : 84);
      for (let k = 3; k >= 0; k -= 1) {
        bytes[at + k] = word % 256;
        word = Math.floor(word / 256);
      }
    }
    return bytes.subarray(0, Math.floor(text.length * 4 / 5));
  };

  const unpacked = (text) => {
    const packed = bytesOfText(text);
    return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip")));
  };

  // The viewer library is stored as gzip. A script element runs it, as the page's policy allows inline scripts only.
  const loadLibrary = async () => {
    const script = document.createElement("script");
    script.textContent = await unpacked(document.getElementById("niivue").textContent).text();
    document.head.append(script);
    if (!window.niivue) throw new Error("its library did not load");
  };

  // The inverse of pack_voxels in viewing.py: low bytes, then high bytes, of differences from the mean of two neighbors.
  const storedOf = async (volume) => {
    const inside = document.getElementById(`voxels-${volume.name}`);
    const text = inside ? inside.textContent : (window.medcycleganVoxels || {})[volume.name];
    if (!text) throw new Error(`the file ${volume.file} is missing next to this page`);
    const bytes = new Uint8Array(await unpacked(text).arrayBuffer());
    const [columns, rows, planes] = volume.shape;
    const count = columns * rows * planes;
    const values = new Int16Array(count);
    for (let n = 0, plane = 0; plane < planes; plane += 1) {
      for (let row = 0; row < rows; row += 1) {
        for (let column = 0; column < columns; column += 1, n += 1) {
          const unsigned = bytes[n] | (bytes[n + count] << 8);
          const difference = (unsigned >> 1) ^ -(unsigned & 1);
          let expected = 0;
          if (column && row) expected = (values[n - 1] + values[n - columns]) >> 1;
          else if (column) expected = values[n - 1];
          else if (row) expected = values[n - columns];
          values[n] = expected + difference;
        }
      }
    }
    return values;
  };

  // Stored values of a volume at the voxels of another grid, interpolated linearly; NaN outside, as affine_transform in
  // error_volume. matrix: from indices of that grid to indices of the volume, row by row.
  const interpolated = ({ values, shape: [columns, rows, planes] }, matrix, [width, height, depth]) => {
    const found = new Float32Array(width * height * depth);
    const last = [columns - 1, rows - 1, planes - 1], strides = [1, columns, columns * rows];
    const base = [0, 0, 0], far = [0, 0, 0], part = [0, 0, 0];
    for (let n = 0, k = 0; k < depth; k += 1) {
      for (let j = 0; j < height; j += 1) {
        for (let i = 0; i < width; i += 1, n += 1) {
          let inside = true;
          for (let axis = 0; axis < 3; axis += 1) {
            const m = 4 * axis;
            const at = matrix[m] * i + matrix[m + 1] * j + matrix[m + 2] * k + matrix[m + 3];
            if (at < -1e-6 || at > last[axis] + 1e-6) inside = false;
            const low = Math.min(Math.max(Math.floor(at), 0), last[axis]);
            part[axis] = Math.min(Math.max(at - low, 0), 1);
            base[axis] = low * strides[axis];
            far[axis] = Math.min(low + 1, last[axis]) * strides[axis];
          }
          let sum = inside ? 0 : NaN;
          for (let corner = 0; inside && corner < 8; corner += 1) {
            let place = 0, weight = 1;
            for (let axis = 0; axis < 3; axis += 1) {
              const upper = (corner >> axis) & 1;
              place += upper ? far[axis] : base[axis];
              weight *= upper ? part[axis] : 1 - part[axis];
            }
            sum += weight * values[place];
          }
          found[n] = sum;
        }
      }
    }
    return found;
  };

  // |fake - reference|, each first mapped to [0, 1] if ranges are given, as error_volume in viewing.py.
  const computedOf = (volume) => {
    const [fake, reference] = volume.computed.from.map((name) => volumes.find((other) => other.name === name));
    const { ranges, matrix } = volume.computed;
    const truth = matrix ? interpolated(reference, matrix, fake.shape) : reference.values;
    const scaled = (stored, other, which) => {
      const number = stored * other.slope + other.intercept;
      if (!ranges) return number;
      const [low, high] = ranges[which];
      return Math.min(1, Math.max(0, (number - low) / (high - low)));
    };
    return fake.values.map((stored, n) => (
      Number.isNaN(truth[n]) ? 0 : Math.round(Math.abs(scaled(stored, fake, 0) - scaled(truth[n], reference, 1)) / volume.slope)
    ));
  };

  // NiiVue reads NIfTI. Its writer sets the slope to 1 and the intercept to 0, so both are set here.
  const niftiOf = async (volume) => {
    volume.values = volume.computed ? computedOf(volume) : await storedOf(volume);
    const array = niivue.NVImage.createNiftiArray(volume.shape, volume.spacing, volume.affine, 4, new Uint8Array(volume.values.buffer));
    const header = new DataView(array.buffer, array.byteOffset);
    header.setFloat32(112, volume.slope, true);
    header.setFloat32(116, volume.intercept, true);
    return array;
  };

  const imageOf = async (volume, opacity) => niivue.NVImage.loadFromUrl({
    url: volume.nifti, name: `${volume.name}.nii`, colormap: volume.colormap, opacity,
    cal_min: volume.presets[0][1], cal_max: volume.presets[0][2],
  });

  const views = [];
  const showPlace = (mm) => {
    for (const view of views) {
      const image = view.viewer.volumes[0];
      const voxel = image.mm2vox([mm[0], mm[1], mm[2]]);
      const inside = voxel.every((v, n) => v >= 0 && v < image.dimsRAS[n + 1]);
      view.value.textContent = inside ? `${Number(image.getValue(...voxel).toPrecision(4))} ${view.volume.unit}` : "";
    }
    const sides = [["L", "R"], ["P", "A"], ["I", "S"]];
    const words = sides.map(([low, high], n) => `${Math.abs(mm[n]).toFixed(1)} ${mm[n] < 0 ? low : high}`);
    document.getElementById("place").textContent = `Crosshair at ${words.join(", ")} (mm)`;
  };
  const moveTo = (mm, except) => {
    for (const { viewer } of views) {
      if (viewer !== except) {
        viewer.scene.crosshairPos = viewer.mm2frac([mm[0], mm[1], mm[2]]);
        viewer.drawScene();
      }
    }
    showPlace(mm);
    showSlice();
  };

  const slice = document.getElementById("slice");
  let plane = 0;
  const axisOf = () => [2, 1, 0, 2][plane];
  const showSlice = () => { slice.value = views[0].viewer.scene.crosshairPos[axisOf()]; };

  const addView = async (volume, overlays) => {
    const figure = document.createElement("figure");
    const holder = document.createElement("div");
    const canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption");
    const value = document.createElement("output");
    holder.className = "canvas";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", volume.description);
    canvas.dataset.volume = volume.name;
    const bar = document.createElement("span"), low = document.createElement("span"), high = document.createElement("span");
    const colors = document.createElement("i");
    bar.className = "bar";
    colors.style.background = `linear-gradient(to right, ${volume.gradient})`;
    bar.append(low, colors, high);
    caption.append(volume.label, value, bar);
    holder.append(canvas);
    figure.append(holder, caption);
    document.getElementById("views").append(figure);
    const viewer = new niivue.Niivue({
      backColor: [0, 0, 0, 1], crosshairColor: [0.2, 0.8, 0.4, 0.8], crosshairWidth: 0.8, crosshairWidthUnit: "percent",
      isRadiologicalConvention: true, sagittalNoseLeft: true, dragAndDropEnabled: false, logLevel: "error",
      loadingText: "", isNearestInterpolation: false, multiplanarShowRender: niivue.SHOW_RENDER.NEVER,
      dragMode: niivue.DRAG_MODE.windowing, isAlphaClipDark: true,
    });
    await viewer.attachToCanvas(canvas, false);
    viewer.addVolume(await imageOf(volume, 1));
    for (const overlay of overlays) viewer.addVolume(await imageOf(overlay, 0));
    viewer.setSliceType(0);
    viewer.onLocationChange = (place) => moveTo(place.mm, viewer);
    const showRange = () => {
      const { cal_min: black, cal_max: white } = viewer.volumes[0];
      low.textContent = `${Number(black.toPrecision(3))}`;
      high.textContent = `${Number(white.toPrecision(3))} ${volume.unit}`;
    };
    viewer.onIntensityChange = showRange;
    showRange();
    views.push({ viewer, volume, value, showRange });
    return viewer;
  };

  try {
    await loadLibrary();
    for (const volume of volumes) volume.nifti = await niftiOf(volume);
    let fakeViewer = null;
    const overlays = volumes.filter((volume) => volume.overlay);
    for (const volume of volumes) {
      const viewer = await addView(volume, volume.name === "fake" ? overlays : []);
      if (volume.name === "fake") fakeViewer = viewer;
    }

    document.getElementById("planes").addEventListener("click", (event) => {
      if (!event.target.dataset.plane) return;
      plane = Number(event.target.dataset.plane);
      for (const button of event.currentTarget.querySelectorAll("button")) {
        button.setAttribute("aria-pressed", button === event.target);
      }
      document.getElementById("views").classList.toggle("large", plane === 3);
      for (const { viewer } of views) {
        viewer.opts.crosshairWidth = plane === 3 ? 0.3 : 0.8;
        viewer.setSliceType(plane);
      }
      showSlice();
    });

    slice.addEventListener("input", () => {
      const first = views[0].viewer;
      const place = [...first.scene.crosshairPos];
      place[axisOf()] = Number(slice.value);
      moveTo(first.frac2mm(place), null);
    });

    document.querySelectorAll("select[data-kind]").forEach((select) => select.addEventListener("change", () => {
      for (const { viewer, volume, showRange } of views) {
        if (volume.kind !== select.dataset.kind) continue;
        const [, low, high] = volume.presets[Number(select.value)];
        viewer.volumes[0].cal_min = low;
        viewer.volumes[0].cal_max = high;
        viewer.updateGLVolume();
        showRange();
      }
    }));

    const choice = document.getElementById("overlay"), opacity = document.getElementById("opacity");
    const showOverlay = () => overlays.forEach((overlay, n) => {
      fakeViewer.setOpacity(n + 1, overlay.name === choice.value ? Number(opacity.value) : 0);
    });
    if (choice) {
      choice.addEventListener("change", showOverlay);
      opacity.addEventListener("input", showOverlay);
    }

    const start = views[0].viewer;
    moveTo(start.frac2mm([...start.scene.crosshairPos]), null);
    message.hidden = true;
    document.getElementById("controls").hidden = false;
    document.body.dataset.viewer = "ready";
  } catch (error) {
    fail(`The viewer could not start: ${error.message}. The picture below shows the same volumes.`);
  }
})();
